from __future__ import annotations

import math

import pytest
import torch
from torchrl import modules

from mario_dreamer.distributions import TanhNormal, TruncatedNormal
from mario_dreamer.losses.actor import entropy_of

LOC, SCALE = torch.tensor([0.0, 0.3, -0.9, 1.0]), torch.tensor([1.0, 0.5, 0.1, 0.7])


def test_a_standard_normal_between_minus_one_and_one() -> None:
    """Z = 0.682689; p(0) = 0.398942 / Z; variance 1 - 2 phi(1) / Z = 0.291125."""
    dist = TruncatedNormal(torch.zeros(1), torch.ones(1))
    assert float(dist.log_prob(torch.zeros(1))) == pytest.approx(math.log(0.398942 / 0.682689))
    entropy = math.log(math.sqrt(2 * math.pi) * 0.682689) + 0.5 - 0.241971 / 0.682689
    assert float(dist.entropy()) == pytest.approx(entropy, abs=1e-5)
    assert float(dist.mean) == float(dist.mode) == 0.0
    torch.manual_seed(0)
    assert float(dist.sample((20_000,)).var()) == pytest.approx(0.291125, abs=0.006)


def test_a_truncated_normal_equals_torchrl() -> None:
    ours, theirs = TruncatedNormal(LOC, SCALE), modules.TruncatedNormal(LOC, SCALE)
    for x in (torch.tensor([0.1, -0.5, -0.8, 0.99]), torch.tensor([-1.0, 1.0, -0.9, 0.3])):
        torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x))
    torch.testing.assert_close(ours.mean, theirs.base_dist.mean)
    torch.testing.assert_close(ours.entropy(), theirs.base_dist.entropy().sum(-1))


def test_the_density_sums_to_one_and_is_zero_outside() -> None:
    x = torch.linspace(-1, 1, 20_001)[:, None]
    for loc, scale in zip(LOC, SCALE, strict=True):
        density = TruncatedNormal(loc[None], scale[None]).log_prob(x).exp()
        assert float(torch.trapezoid(density, x[:, 0])) == pytest.approx(1, abs=1e-4)
    assert float(TruncatedNormal(LOC[:1], SCALE[:1]).log_prob(torch.tensor([1.1]))) == -math.inf


def test_numbers_drawn_are_quantiles_with_a_gradient() -> None:
    loc, scale = LOC.clone().requires_grad_(), SCALE.clone().requires_grad_()
    dist = TruncatedNormal(loc, scale)
    median = TruncatedNormal(torch.zeros(1), torch.ones(1)).rsample(noise=torch.tensor([0.5]))
    assert float(median) == pytest.approx(0, abs=1e-6)
    ends = TruncatedNormal(torch.zeros(2), torch.ones(2)).rsample(noise=torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(ends, torch.tensor([-1.0, 1.0]))
    dist.rsample(noise=torch.full((4,), 0.4)).sum().backward()
    assert bool((loc.grad > 0).all()) and bool((scale.grad != 0).all())


def test_a_squashed_normal_equals_torchrl() -> None:
    """Hand-computed at 0: N(0; 0, 1) = 0.398942, and tanh has slope 1 there."""
    at_zero = TanhNormal(torch.zeros(1), torch.ones(1)).log_prob(torch.zeros(1))
    assert float(at_zero) == pytest.approx(math.log(0.398942), abs=1e-5)
    ours, theirs = TanhNormal(LOC, SCALE), modules.TanhNormal(LOC, SCALE, event_dims=1)
    for x in (torch.tensor([0.1, -0.5, -0.8, 0.99]), torch.tensor([-0.9, 0.9, -0.6, 0.3])):
        torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x))
    torch.testing.assert_close(ours.mode, theirs.deterministic_sample)


@pytest.mark.parametrize("loc", [-30.0, 9.0, 30.0])
def test_a_squashed_normal_stays_finite_at_its_ends(loc: float) -> None:
    """The action is rounded to 1; a sampled entropy still draws the mean back to the middle."""
    mean = torch.full((500, 1), loc, requires_grad=True)
    scale = torch.full((500, 1), 0.5, requires_grad=True)
    action = TanhNormal(mean, scale).sample()
    log_prob = TanhNormal(mean, scale).log_prob(action)
    entropy = entropy_of(TanhNormal(mean, scale))
    found = [log_prob, entropy, *torch.autograd.grad(log_prob.sum(), (mean, scale))]
    assert all(bool(value.isfinite().all()) for value in found)
    (slope,) = torch.autograd.grad(entropy.sum(), mean)
    torch.testing.assert_close(slope, -2 * torch.sign(mean), atol=1e-4, rtol=0)


def test_the_mean_of_a_squashed_normal_is_that_of_its_samples() -> None:
    torch.manual_seed(0)
    for loc, scale in ((0.0, 1.0), (1.0, 0.5), (-3.0, 1.0)):
        dist = TanhNormal(torch.tensor([loc]), torch.tensor([scale]))
        assert float(dist.mean) == pytest.approx(float(dist.sample((50_000,)).mean()), abs=0.01)
