from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import kl_divergence

from mario_dreamer.distributions import OneHotCategorical


def disjoint(classes: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    one, other = torch.full((2, classes), -1e4).unbind(0)
    one, other = one.clone(), other.clone()
    one[0] = other[1] = 1e4
    return one, other


def test_unimix_bounds_every_probability() -> None:
    certain = OneHotCategorical(disjoint()[0], unimix=0.01)
    assert certain.probs.min().item() == pytest.approx(3.125e-4, rel=1e-5)
    assert certain.probs.max().item() == pytest.approx(0.9903125, rel=1e-6)
    assert certain.logits.min().item() == pytest.approx(-8.0709, abs=1e-4)


def test_unimix_bounds_kl_and_entropy() -> None:
    one, other = (OneHotCategorical(logits, unimix=0.01) for logits in disjoint())
    assert kl_divergence(one, other).item() == pytest.approx(7.9806, abs=1e-4)
    assert one.entropy().item() == pytest.approx(0.08783, abs=1e-5)
    assert kl_divergence(one, one).item() == 0.0


@pytest.mark.parametrize(("classes", "total"), [(32, 110.9035), (16, 88.7228)])
def test_uniform_logits_have_the_entropy_of_32_free_choices(classes: int, total: float) -> None:
    entropy = OneHotCategorical(torch.zeros(32, classes), unimix=0.01).entropy().sum()
    assert entropy.item() == pytest.approx(total, abs=1e-3)


def test_seven_actions_begin_with_an_entropy_of_log_seven() -> None:
    assert OneHotCategorical(torch.zeros(7)).entropy().item() == pytest.approx(1.945910, abs=1e-6)


def test_without_unimix_it_is_a_plain_softmax() -> None:
    logits = torch.randn(5, 7)
    dist = OneHotCategorical(logits)
    torch.testing.assert_close(dist.probs, logits.softmax(-1))
    torch.testing.assert_close(dist.logits, logits.log_softmax(-1))


def test_a_sample_is_one_hot_with_the_gradient_of_the_probs() -> None:
    logits = torch.randn(4, 8, 5, requires_grad=True)
    weights = torch.randn(4, 8, 5)
    sample = OneHotCategorical(logits, unimix=0.01).rsample()
    assert set(sample.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(sample.sum(-1), torch.ones(4, 8))
    (through_sample,) = torch.autograd.grad((weights * sample).sum(), logits)
    probs = OneHotCategorical(logits, unimix=0.01).probs
    (through_probs,) = torch.autograd.grad((weights * probs).sum(), logits)
    torch.testing.assert_close(through_sample, through_probs)
    assert through_sample.abs().max() > 0


def test_samples_come_as_often_as_they_are_likely() -> None:
    probs = torch.tensor([0.5, 0.3, 0.0, 0.15, 0.05])
    draws = OneHotCategorical(probs.log().clamp_min(-1e4).expand(40_000, 5)).sample()
    torch.testing.assert_close(draws.mean(0), probs, atol=0.01, rtol=0.0)
    assert draws[:, 2].sum() == 0  # what cannot happen does not happen


@pytest.mark.parametrize("favourite", [0, 3, 6])
def test_a_certain_choice_is_always_sampled(favourite: int) -> None:
    logits = torch.full((1000, 7), -1e4)
    logits[:, favourite] = 1e4
    assert OneHotCategorical(logits).sample()[:, favourite].all()


def test_two_draws_differ_and_one_seed_gives_one_draw() -> None:
    dist = OneHotCategorical(torch.zeros(100, 8))
    torch.manual_seed(0)
    first, second = dist.sample(), dist.sample()
    torch.manual_seed(0)
    assert torch.equal(dist.sample(), first)
    assert not torch.equal(first, second)


def test_log_prob_scores_the_mixture() -> None:
    dist = OneHotCategorical(torch.tensor([0.0, 0.0, 1e4, 0.0]), unimix=0.04)
    assert dist.log_prob(dist.mode).item() == pytest.approx(math.log(0.97), abs=1e-6)
    unlikely = torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert dist.log_prob(unlikely).item() == pytest.approx(math.log(0.01), abs=1e-5)


def test_a_detached_copy_has_no_gradient_and_the_same_numbers() -> None:
    dist = OneHotCategorical(torch.randn(3, 4, requires_grad=True), unimix=0.01)
    detached = dist.detach()
    assert torch.equal(detached.probs, dist.probs) and torch.equal(detached.logits, dist.logits)
    assert not detached.probs.requires_grad and not detached.logits.requires_grad
    assert dist.probs.requires_grad and dist.logits.requires_grad


def test_half_precision_logits_are_scored_in_float32() -> None:
    dist = OneHotCategorical(torch.randn(3, 4).bfloat16(), unimix=0.01)
    assert dist.entropy().dtype == dist.sample().dtype == torch.float32


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=9), st.floats(0, 1))
def test_probabilities_are_a_distribution(logits: list[float], unimix: float) -> None:
    dist = OneHotCategorical(torch.tensor(logits), unimix)
    assert dist.probs.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert (dist.probs >= unimix / len(logits) - 1e-6).all()
    assert -1e-5 <= dist.entropy().item() <= math.log(len(logits)) + 1e-5
    assert dist.sample().sum().item() == 1.0
