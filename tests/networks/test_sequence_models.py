from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mario_dreamer.networks import GRU, BlockGRU
from mario_dreamer.networks.sequence_models import gated_update


def step(model: torch.nn.Module, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
    """h_t, as the RSSM asks for it."""
    read = getattr(model, "read_action", lambda action: action)
    return model(deter, stoch, read(action))


SIZES = {"deter_dim": 16, "stoch_shape": (4, 3), "action_dim": 5, "hidden_dim": 6}


def test_the_gates_by_hand() -> None:
    deter, reset, cand, update = (torch.tensor([x]) for x in (0.5, 0.0, 2.0, 1.0))
    # reset 0.5, candidate tanh(0.5 * 2), update sigmoid(1 - 1) = 0.5
    expected = 0.5 * math.tanh(1.0) + 0.5 * 0.5
    assert gated_update(deter, reset, cand, update).item() == pytest.approx(expected)


def test_with_all_gates_at_zero_most_is_remembered() -> None:
    zero = torch.zeros(1)
    kept = gated_update(torch.ones(1), zero, zero, zero).item()
    assert kept == pytest.approx(1 - 1 / (1 + math.e))  # update = sigmoid(-1)


@pytest.mark.parametrize("kind", [BlockGRU, GRU])
def test_the_memory_stays_between_minus_one_and_one(kind: type[torch.nn.Module]) -> None:
    model, deter = kind(**SIZES), torch.zeros(3, 16)
    for _ in range(50):
        deter = step(model, deter, 50 * torch.randn(3, 4, 3), torch.randn(3, 5))
    assert deter.shape == (3, 16) and deter.abs().max() <= 1.0
    assert deter.abs().max() > 0.05


@pytest.mark.parametrize("kind", [BlockGRU, GRU])
def test_memory_choice_and_action_all_matter(kind: type[torch.nn.Module]) -> None:
    model = kind(**SIZES)
    inputs = [torch.rand(1, 16), torch.rand(1, 4, 3), torch.rand(1, 5)]
    for x in inputs:
        x.requires_grad_()
    for gradient in torch.autograd.grad(step(model, *inputs)[0, 7], inputs):
        assert gradient.abs().sum() > 0


def test_blocks_write_apart_but_read_everything() -> None:
    model = BlockGRU(**SIZES, blocks=8)
    inputs = [torch.rand(1, 16), torch.rand(1, 4, 3), torch.rand(1, 5)]
    before = step(model, *inputs)
    with torch.no_grad():
        model.gates.weight[3] += 1.0
    changed = (step(model, *inputs) != before)[0].nonzero().flatten().tolist()
    assert changed == [6, 7]  # block 3 of 8, two units each
    deter = inputs[0].requires_grad_()
    (gradient,) = torch.autograd.grad(step(model, deter, *inputs[1:])[0, 0], deter)
    assert (gradient[0, 2:] != 0).all()  # through the shared embedding


def test_gates_are_split_inside_each_block() -> None:
    model = BlockGRU(**SIZES, blocks=8)
    torch.nn.init.zeros_(model.gates.weight)
    gates = model.gates.bias.data.view(8, 3, 2)  # block, (reset, cand, update), unit
    gates[:, 2] = -1e4  # update 0: keep
    gates[5, 2] = 1e4  # block 5 takes the candidate
    gates[5, 0], gates[5, 1] = 1e4, 0.3
    deter = torch.rand(2, 16)
    after = step(model, deter, torch.rand(2, 4, 3), torch.rand(2, 5))
    expected = deter.clone()
    expected[:, 10:12] = math.tanh(0.3)
    torch.testing.assert_close(after, expected)
