from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mario_dreamer.training.optim import ClippedOptimizer, LaProp, adaptive_clip_, norm_clip_


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values))


class Bag(nn.Module):
    """A module that is nothing but its parameters."""

    def __init__(self, *params: nn.Parameter) -> None:
        super().__init__()
        self.params = nn.ParameterList(params)


def test_a_large_gradient_is_cut_to_three_tenths_of_its_tensor() -> None:
    grad, weight = torch.tensor([6.0, 8.0]), torch.tensor([0.6, 0.8])  # norms 10 and 1
    found, clipped = adaptive_clip_([grad], [weight], 0.3)
    torch.testing.assert_close(grad, torch.tensor([0.18, 0.24]))
    assert float(found) == pytest.approx(10.0) and int(clipped) == 1


def test_a_zero_tensor_takes_a_gradient_of_three_ten_thousandths() -> None:
    grad = torch.tensor([3.0, 4.0])
    adaptive_clip_([grad], [torch.zeros(2)], 0.3)
    assert float(grad.norm()) == pytest.approx(3e-4, rel=1e-5)


def test_adaptive_clipping_depends_on_each_tensors_own_norm() -> None:
    grads = [torch.tensor([0.1]), torch.tensor([50.0]), torch.tensor([0.0])]
    weights = [torch.tensor([1.0]), torch.tensor([10.0]), torch.tensor([1.0])]
    assert int(adaptive_clip_(grads, weights, 0.3)[1]) == 1
    assert [float(grad) for grad in grads] == pytest.approx([0.1, 3.0, 0.0])


def test_the_global_clip_keeps_the_direction_over_all_tensors() -> None:
    grads = [torch.tensor([30.0]), torch.tensor([40.0])]
    found, clipped = norm_clip_(grads, [torch.zeros(1), torch.zeros(1)], 5.0)
    assert float(found) == pytest.approx(50.0) and int(clipped) == 2
    assert [float(grad) for grad in grads] == pytest.approx([3.0, 4.0], rel=1e-5)


def test_the_first_step_moves_every_weight_by_the_learning_rate() -> None:
    weight = parameter(1.0, -2.0, 3.0, 0.0)
    weight.grad = torch.tensor([1e-6, -5.0, 100.0, -1e-10])
    before = weight.detach().clone()
    LaProp([weight], lr=0.01).step()
    moved = weight.detach() - before
    torch.testing.assert_close(moved, -0.01 * weight.grad.sign(), rtol=1e-4, atol=1e-9)


def test_a_weight_without_a_gradient_or_with_a_zero_one_stays() -> None:
    still, absent = parameter(1.0), parameter(2.0)
    still.grad = torch.zeros(1)
    LaProp([still, absent], lr=0.1).step()
    assert float(still) == 1.0 and float(absent) == 2.0


def test_laprop_agrees_with_a_slow_loop_in_double_precision() -> None:
    weight = parameter(0.5, -1.0, 2.0)
    optimizer = LaProp([weight], lr=0.02, betas=(0.8, 0.95))
    slow = [[w, 0.0, 0.0] for w in weight.detach().double().tolist()]  # w, n, m
    grads = torch.randn(20, 3) * torch.logspace(-3, 3, 20).unsqueeze(-1)
    for k, grad in enumerate(grads, start=1):
        weight.grad = grad.clone()
        optimizer.step()
        for cell, g in zip(slow, grad.double().tolist(), strict=True):
            cell[1] = 0.95 * cell[1] + 0.05 * g * g
            u = g / (math.sqrt(cell[1] / (1 - 0.95**k)) + 1e-20)
            cell[2] = 0.8 * cell[2] + 0.2 * u
            cell[0] -= 0.02 * cell[2] / (1 - 0.8**k)
    torch.testing.assert_close(
        weight.detach().double(), torch.tensor([cell[0] for cell in slow]).double(),
        rtol=0, atol=2e-6,
    )  # fmt: skip


@pytest.mark.parametrize("first", [True, False])
def test_a_weight_that_joins_later_begins_with_a_whole_step(first: bool) -> None:
    early, late = parameter(1.0), parameter(1.0)
    optimizer = LaProp([late, early] if first else [early, late], lr=0.1)
    for _ in range(5):
        early.grad = torch.ones(1)
        optimizer.step()
    before = float(early)
    early.grad, late.grad = torch.ones(1), torch.full((1,), 3.0)
    optimizer.step()
    assert [1.0 - float(late), before - float(early)] == pytest.approx([0.1, 0.1], rel=1e-4)


def test_counts_of_steps_come_back_with_the_state() -> None:
    def step(optimizer: LaProp, *grads: float | None) -> None:
        for param, value in zip(optimizer.param_groups[0]["params"], grads, strict=True):
            param.grad = None if value is None else torch.full((1,), value)
        optimizer.step()

    first = LaProp([parameter(1.0), parameter(1.0)], lr=0.1)
    second = LaProp([parameter(1.0), parameter(1.0)], lr=0.1)
    step(second, 1.0, 1.0)  # both have taken one step, until the state is loaded
    step(first, 1.0, None)
    second.load_state_dict(first.state_dict())
    second.param_groups[0]["params"][1].data.fill_(1.0)
    step(second, 1.0, 3.0)
    late = second.param_groups[0]["params"][1]
    assert 1.0 - float(late) == pytest.approx(0.1, rel=1e-4)


def test_a_closure_computes_the_gradients_of_a_step() -> None:
    weight = parameter(1.0)
    optimizer = LaProp([weight], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (3 * weight).sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure)) == 3.0
    assert float(weight) == pytest.approx(0.9)


def test_a_group_without_gradients_takes_no_step() -> None:
    weights = {name: Bag(parameter(1.0)) for name in ("agent", "frozen")}
    optimizer = ClippedOptimizer(weights, lr=0.1, warmup=0)
    next(weights["agent"].parameters()).grad = torch.ones(1)
    assert set(optimizer.step()) == {"lr", "grad_norm", "clipped", "grad_norm_agent"}
    assert [float(next(bag.parameters())) for bag in weights.values()] == [pytest.approx(0.9), 1.0]


def test_the_learning_rate_warms_up_in_1000_updates() -> None:
    weight = parameter(1.0)
    optimizer = ClippedOptimizer({"agent": Bag(weight)}, lr=4e-5, agc=None, warmup=1000)
    rates = {}
    for update in range(1003):
        weight.grad = torch.ones(1)
        optimizer.step()
        rates[update] = float(optimizer.optimizer.param_groups[0]["lr"])
        if update == 0:
            assert float(weight) == 1.0, "the first update has a learning rate of zero"
    assert rates[0] == 0.0
    assert rates[500] == pytest.approx(2e-5)
    assert rates[1000] == rates[1002] == pytest.approx(4e-5)


def test_without_warmup_the_first_update_counts() -> None:
    weight = parameter(1.0)
    weight.grad = torch.ones(1)
    ClippedOptimizer({"agent": Bag(weight)}, lr=0.5, agc=None, warmup=0).step()
    assert float(weight) == pytest.approx(0.5, rel=1e-4)


def test_three_groups_have_rates_clips_and_eps_of_their_own() -> None:
    weights = {name: parameter(1.0) for name in ("world_model", "actor", "critic")}
    optimizer = ClippedOptimizer(
        {name: Bag(weight) for name, weight in weights.items()},
        optimizer=torch.optim.SGD,
        lr={"world_model": 1.0, "actor": 0.1, "critic": 0.01},
        clip_norm={"world_model": 1000.0, "actor": 2.0, "critic": 100.0},
        agc=None,
        warmup=0,
    )
    for weight in weights.values():
        weight.grad = torch.tensor([4.0])
    metrics = optimizer.step()
    moved = {name: 1.0 - float(weight) for name, weight in weights.items()}
    assert moved == pytest.approx({"world_model": 4.0, "actor": 0.2, "critic": 0.04}, rel=1e-4)
    assert {name: float(value) for name, value in metrics.items()} == pytest.approx({
        "grad_norm_world_model": 4.0, "grad_norm_actor": 4.0, "grad_norm_critic": 4.0,
        "grad_norm": 48**0.5, "lr": 1.0, "clipped": 1 / 3,
    })  # fmt: skip


def test_a_group_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match=r"\['actr'\].*\['actor'\]"):
        ClippedOptimizer({"actor": Bag(parameter(1.0))}, lr={"actr": 1.0})


def test_a_group_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="'actor' has no parameters"):
        ClippedOptimizer({"actor": nn.Identity()})


@pytest.mark.parametrize("kind", [LaProp, torch.optim.Adam])
def test_an_optimiser_goes_on_bit_for_bit_from_its_state(kind: type) -> None:
    def make() -> tuple[nn.Parameter, ClippedOptimizer]:
        weight = parameter(1.0, -2.0, 0.3)
        return weight, ClippedOptimizer({"agent": Bag(weight)}, kind, lr=0.01, warmup=7)

    grads = torch.randn(10, 3)
    weight, optimizer = make()
    for update, grad in enumerate(grads):
        if update == 5:
            kept, state = weight.detach().clone(), optimizer.state_dict()
            state = torch.load(_saved(state), weights_only=True)
        weight.grad = grad.clone()
        optimizer.step()
    again, other = make()
    again.data.copy_(kept)
    other.load_state_dict(state)
    for grad in grads[5:]:
        again.grad = grad.clone()
        other.step()
    assert torch.equal(weight, again)
    assert float(other.updates) == 10
    one, two = (run.state_dict()["optimizer"]["param_groups"] for run in (optimizer, other))
    assert one == two, "a resume adds no word of its own"


def _saved(state: dict) -> object:
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file
