"""Our distributions where torch's and TorchRL's are expected."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictModule as Prob
from tensordict.nn import ProbabilisticTensorDictSequential as Seq
from tensordict.nn import TensorDictModule as Mod
from torch import nn
from torch.distributions import Distribution, kl_divergence
from torchrl.envs import ExplorationType, set_exploration_type
from torchrl.modules import ProbabilisticActor

from mario_dreamer.distributions import (
    MSE,
    Bernoulli,
    MultiOneHotCategorical,
    OneHotCategorical,
    SymlogMSE,
    TanhNormal,
    TruncatedNormal,
    TwoHot,
)

KINDS = {
    "one-hot": lambda x: OneHotCategorical(x, 0.01),
    "several one-hots": lambda x: MultiOneHotCategorical(x, [2, 3]),
    "Bernoulli": lambda x: Bernoulli(x[..., :1]),
    "tanh normal": lambda x: TanhNormal(x, x.exp()),
    "truncated normal": lambda x: TruncatedNormal(x.tanh(), x.exp()),
    "MSE": MSE,
    "symlog MSE": SymlogMSE,
    "two-hot": lambda x: TwoHot(x, bins=5),
}
DRAWN = list(KINDS)[:5]


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_a_torch_distribution_with_its_shapes(kind: str) -> None:
    dist = KINDS[kind](torch.randn(3, 4, 5))
    assert isinstance(dist, Distribution) and dist.batch_shape == (3, 4)
    assert dist.mean.shape == (3, 4, *dist.event_shape)
    assert dist.log_prob(dist.mode).shape == dist.batch_shape


@pytest.mark.parametrize("kind", DRAWN)
def test_several_draws_lie_in_front_and_differ(kind: str) -> None:
    dist = KINDS[kind](torch.zeros(4, 5))
    drawn = dist.sample((500,))
    assert drawn.shape == (500, 4, *dist.event_shape)
    assert dist.log_prob(drawn).shape == (500, 4)
    torch.testing.assert_close(drawn.mean(0), dist.mean, atol=0.15, rtol=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_values_with_more_dimensions_in_front_are_scored(kind: str) -> None:
    dist = KINDS[kind](torch.randn(4, 5))
    values = torch.stack([dist.mode, dist.deterministic_sample])
    expected = torch.stack([dist.log_prob(value) for value in values])
    torch.testing.assert_close(dist.log_prob(values), expected)


@pytest.mark.parametrize("kind", ["one-hot", "several one-hots"])
def test_straight_through_gradients_sum_over_the_draws(kind: str) -> None:
    logits = torch.randn(4, 5, requires_grad=True)
    one, several = KINDS[kind](logits), KINDS[kind](logits)
    weight = torch.randn(5)
    (expected,) = torch.autograd.grad((one.rsample() * weight).sum(), logits)
    (found,) = torch.autograd.grad((several.rsample((3,)) * weight).sum(), logits)
    torch.testing.assert_close(found, 3 * expected)


@pytest.mark.parametrize("kind", KINDS)
def test_an_expanded_distribution_repeats_its_numbers(kind: str) -> None:
    dist = KINDS[kind](torch.randn(4, 5))
    x = dist.mode
    before = dist.log_prob(x)  # what is cached must not stay behind
    more = dist.expand((2, 4))
    assert more.batch_shape == (2, 4) and dist.batch_shape == (4,)
    torch.testing.assert_close(more.mean, dist.mean.expand(2, 4, -1))
    for value in (x, x.expand(2, 4, -1)):
        torch.testing.assert_close(more.log_prob(value), before.expand(2, 4))
    if kind in DRAWN:
        assert more.sample((3,)).shape == (3, 2, 4, *dist.event_shape)


def test_kl_divergence_agrees_with_torch() -> None:
    one, other = torch.randn(2, 4, 5)
    theirs = torch.distributions.OneHotCategorical
    expected = kl_divergence(theirs(logits=one), theirs(logits=other))
    found = kl_divergence(OneHotCategorical(one), OneHotCategorical(other))
    torch.testing.assert_close(found, expected)
    parts = [kl_divergence(theirs(logits=p), theirs(logits=q))
             for p, q in zip(one.split([2, 3], -1), other.split([2, 3], -1), strict=True)]  # fmt: skip
    found = kl_divergence(*(MultiOneHotCategorical(x, [2, 3]) for x in (one, other)))
    torch.testing.assert_close(found, sum(parts))
    torch_bernoulli = torch.distributions.Bernoulli
    expected = kl_divergence(*(torch_bernoulli(logits=x[..., 0]) for x in (one, other)))
    found = kl_divergence(Bernoulli(one[..., :1]), Bernoulli(other[..., :1]))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("unimix", [0.0, 0.01])
def test_a_torchrl_actor_draws_and_scores_them(unimix: float) -> None:
    net = nn.Linear(3, 5)
    actor = ProbabilisticActor(
        Mod(net, ["feat"], ["logits"]), ["logits"], ["action"], return_log_prob=True,
        distribution_class=OneHotCategorical, distribution_kwargs={"unimix": unimix},
    )  # fmt: skip
    seen = TensorDict(feat=torch.randn(300, 3), batch_size=[300])
    with set_exploration_type(ExplorationType.RANDOM):
        played = actor(seen.copy())
    dist = OneHotCategorical(net(seen["feat"]), unimix)
    torch.testing.assert_close(played["action_log_prob"], dist.log_prob(played["action"]))
    assert bool((played["action"] != dist.mode).any())
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        assert torch.equal(actor(seen.copy())["action"], dist.mode)


@pytest.mark.parametrize("kind", [MSE, SymlogMSE, TwoHot])
def test_a_torchrl_head_predicts_their_mean(kind: type[Distribution]) -> None:
    params = torch.randn(4, 255)
    name = "logits" if kind is TwoHot else "mean"
    head = Seq(
        Mod(nn.Identity(), ["params"], [name]),
        Prob([name], ["value"], distribution_class=kind),
    )
    found = head(TensorDict(params=params, batch_size=[4]))["value"]
    torch.testing.assert_close(found, kind(params).mean)


@pytest.mark.parametrize("kind", ["MSE", "symlog MSE", "two-hot"])
def test_a_prediction_that_is_drawn_says_to_take_its_mean(kind: str) -> None:
    dist = KINDS[kind](torch.randn(4, 5))
    assert not dist.has_rsample
    for draw in (dist.sample, dist.rsample):
        with pytest.raises(NotImplementedError, match=f"{type(dist).__name__} draws no .* mean"):
            draw()


@pytest.mark.parametrize("make", [torch.distributions.OneHotCategorical, OneHotCategorical])
def test_a_class_ruled_out_leaves_numbers_finite(make: type[Distribution]) -> None:
    logits = torch.tensor([[1.0, -torch.inf, 0.5]], requires_grad=True)
    dist = make(logits=logits)
    chosen = torch.tensor([[0.0, 0.0, 1.0]])
    total = dist.log_prob(chosen) + dist.entropy()
    total.sum().backward()
    torch.testing.assert_close(total.detach(), torch.tensor([-0.311229]), atol=1e-5, rtol=0.0)
    assert bool(logits.grad.isfinite().all()) and float(logits.grad[0, 1]) == 0.0


def test_a_masked_distribution_scores_what_it_allows() -> None:
    logits = torch.randn(2, 4, requires_grad=True)
    mask = torch.tensor([True, False, True, True])
    dist = OneHotCategorical(logits, 0.01).masked(mask)
    nats = dist.log_prob(dist.sample()) + dist.entropy()
    nats.sum().backward()
    assert bool(nats.isfinite().all() & logits.grad.isfinite().all())


def test_another_number_of_logits_than_bins_is_refused() -> None:
    with pytest.raises(ValueError, match=r"TwoHot: logits must be \[..., 255\].*got \[4, 5\]"):
        TwoHot(torch.zeros(4, 5))
