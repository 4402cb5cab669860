from __future__ import annotations

import math

import pytest
import torch

from mario_dreamer.networks import BernoulliHead, MSEHead, OneHotHead, TwoHotHead

FEAT = torch.randn(4, 3, 10, generator=torch.Generator().manual_seed(0)) * 5


@pytest.mark.parametrize("norm", ["rms", "layer"])
@pytest.mark.parametrize("kind", ["symexp", "symlog"])
def test_an_untrained_scalar_head_predicts_zero_uniformly(
    norm: str, kind: str
) -> None:
    head = TwoHotHead(10, layers=2, units=16, norm=norm, kind=kind)
    dist = head.dist(head(FEAT))
    assert (dist.mean == 0.0).all() and dist.mean.shape == (4, 3, 1)
    loss = -dist.log_prob(torch.randn(4, 3, 1) * 1000)
    torch.testing.assert_close(loss, torch.full((4, 3), 5.541264))


def test_a_scalar_head_learns_a_return_of_4000() -> None:
    head = TwoHotHead(10, layers=1, units=32)
    optimizer = torch.optim.Adam(head.parameters(), 0.03)
    target = torch.full((4, 3, 1), 4000.0)
    for _ in range(60):
        optimizer.zero_grad()
        (-head.dist(head(FEAT)).log_prob(target)).mean().backward()
        optimizer.step()
    torch.testing.assert_close(head.dist(head(FEAT)).mean, target, rtol=0.05, atol=0.0)


def test_bins_move_with_the_head_but_stay_out_of_its_checkpoint() -> None:
    head = TwoHotHead(10, layers=1, units=16, bins=63)
    assert head.bins.shape == (63,) and "bins" not in head.state_dict()
    assert head.to("meta").bins.device.type == "meta"


def test_an_untrained_actor_is_nearly_uniform() -> None:
    head = OneHotHead(10, action_dim=7, layers=2, units=16)
    dist = head.dist(head(FEAT))
    torch.testing.assert_close(dist.entropy(), torch.full((4, 3), math.log(7)), atol=1e-3, rtol=0.0)


def test_with_unimix_no_action_ever_dies_out() -> None:
    head = OneHotHead(10, 7, unimix=0.01)
    probs = head.dist(torch.tensor([1e4] + [-1e4] * 6)).probs
    assert probs.min().item() == pytest.approx(0.0014286, abs=1e-6)
    assert probs.max().item() == pytest.approx(0.9914286, abs=1e-6)
    assert head.dist(torch.tensor([1e4] + [-1e4] * 6)).entropy().item() == pytest.approx(
        0.0647, abs=1e-4
    )


def test_the_continue_head_gives_one_probability_per_state() -> None:
    head = BernoulliHead(10, layers=1, units=16)
    dist = head.dist(head(FEAT))
    assert dist.mean.shape == (4, 3, 1) and ((dist.mean > 0) & (dist.mean < 1)).all()
    assert dist.log_prob(torch.ones(4, 3, 1)).shape == (4, 3)


def test_the_plain_head_gives_a_mean_and_a_squared_error() -> None:
    head = MSEHead(10, layers=1, units=16)
    dist = head.dist(head(FEAT))
    assert (dist.mean == 0).all()
    assert torch.equal(dist.log_prob(torch.full((4, 3, 1), 3.0)), torch.full((4, 3), -9.0))


def test_a_zero_output_layer_learns_before_the_layers_below() -> None:
    head = TwoHotHead(10, layers=1, units=16)
    for step in range(2):
        head.zero_grad()
        (-head.dist(head(FEAT)).log_prob(torch.ones(4, 3, 1))).mean().backward()
        reached = {name for name, p in head.named_parameters() if p.grad.abs().sum() > 0}
        everything = {name for name, _ in head.named_parameters()}
        assert reached == ({"mlp.out.weight", "mlp.out.bias"} if step == 0 else everything)
        with torch.no_grad():
            for parameter in head.parameters():
                parameter -= 0.1 * parameter.grad
