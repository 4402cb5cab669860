"""Actor and critic losses with distributions, shapes and reductions of other people."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase
from tiny import make_tiny
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, Normal
from torchrl.modules import TanhNormal

from mario_dreamer.losses import ActorLoss, CriticLoss, WorldModelLoss
from mario_dreamer.losses.actor import entropy_of


class Actor(TensorDictModuleBase):
    """An actor over 2 numbers (or 2 indices) whose distribution the test chooses."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make, self.net = make, nn.Linear(5, 2)
        self.in_keys, self.out_keys = ["feat"], ["action"]

    def get_dist(self, tensordict: TensorDict) -> Any:
        return self.make(self.net(tensordict["feat"]))


MAKERS = {
    "tanh normal": lambda x: TanhNormal(x, torch.ones_like(x), event_dims=1),
    "independent normal": lambda x: Independent(Normal(x, 1.0), 1),
}


def rollouts(*batch: int, action: Tensor | None = None) -> TensorDict:
    data = {
        "feat": torch.randn(*batch, 4, 5), "advantage": torch.randn(*batch, 3, 1),
        "weight": torch.ones(*batch, 4, 1), "lambda_return": torch.randn(*batch, 3, 1),
        "action": torch.rand(*batch, 3, 2) if action is None else action,
    }  # fmt: skip
    return TensorDict(data, batch_size=batch)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("batch", [(6,), (2, 3)])
def test_continuous_actions_give_a_gradient(name: str, batch: tuple[int, ...]) -> None:
    actor = Actor(MAKERS[name])
    ActorLoss(actor, entropy_scale=0.1)(rollouts(*batch))["loss_actor"].backward()
    assert float(actor.net.weight.grad.abs().sum()) > 0


def test_index_actions_equal_one_hot_actions() -> None:
    index = torch.randint(2, (6, 3))
    actor = Actor(lambda x: Categorical(logits=x))
    data = rollouts(6, action=index)
    one = ActorLoss(actor)(data)
    actor.make = lambda x: torch.distributions.OneHotCategorical(logits=x)
    two = ActorLoss(actor)(data.set("action", torch.eye(2)[index]))
    torch.testing.assert_close(one["loss_actor"], two["loss_actor"])


def test_batches_of_batches_equal_one_batch() -> None:
    critic = make_tiny("critic.outscale=1.0").agent.critic
    data = rollouts(2, 3)
    data["feat"] = torch.randn(2, 3, 4, 28)
    nested, flat = CriticLoss(critic)(data), CriticLoss(critic)(data.reshape(-1))
    torch.testing.assert_close(nested["loss_critic"], flat["loss_critic"])


def test_a_distribution_that_does_not_sum_is_named() -> None:
    loss = ActorLoss(Actor(lambda x: Normal(x, 1.0)))
    expected = r"Normal: the log_prob .* \[6, 3, 2\]; expected \[6, 3\].*Independent"
    with pytest.raises(ValueError, match=expected):
        loss(rollouts(6))


def test_actions_of_another_number_of_steps_are_refused() -> None:
    loss = ActorLoss(Actor(MAKERS["independent normal"]))
    with pytest.raises(ValueError, match=r"ActorLoss: action must be \[6, 3, \*\]"):
        loss(rollouts(6, action=torch.rand(6, 4, 2)))


class NoEntropy:
    """A normal distribution without entropy() and sample()."""

    def __init__(self, loc: Tensor) -> None:
        self.normal = Independent(Normal(loc, 1.0), 1)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.normal.log_prob(x)


def test_without_entropy_scale_no_entropy_is_asked_for() -> None:
    found = ActorLoss(Actor(NoEntropy), entropy_scale=0.0)(rollouts(6))
    assert bool(found["loss_actor"].isfinite()) and math.isnan(float(found["entropy"]))


@pytest.mark.parametrize("reparametrised", [True, False])
def test_a_sampled_entropy_matches_the_closed_form(
    reparametrised: bool,
) -> None:
    class Sampled(NoEntropy):
        has_rsample = reparametrised

        def __init__(self, std: Tensor) -> None:
            self.normal = Normal(torch.zeros_like(std), std)

        def sample(self) -> Tensor:
            return self.normal.sample()

        def rsample(self) -> Tensor:
            assert reparametrised
            return self.normal.rsample()

    std = torch.full((40_000,), 2.0, requires_grad=True)
    estimate = entropy_of(Sampled(std)).mean()
    assert float(estimate.detach()) == pytest.approx(float(Normal(0.0, 2.0).entropy()), abs=0.02)
    estimate.backward()
    assert float(std.grad.sum()) == pytest.approx(1 / 2.0, abs=0.03)  # dH/dstd = 1 / std


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_reductions_agree_with_the_mean(reduction: str) -> None:
    actor, critic = Actor(MAKERS["independent normal"]), make_tiny().agent.critic
    data = rollouts(6)
    mean = ActorLoss(actor)(data)["loss_actor"]
    other = ActorLoss(actor, reduction=reduction)(data)["loss_actor"]
    assert other.shape == ((6, 3) if reduction == "none" else ())
    torch.testing.assert_close(other.sum() / 18, mean)
    data["feat"] = torch.randn(6, 4, 28)
    mean = CriticLoss(critic)(data)["loss_critic"]
    other = CriticLoss(critic, reduction=reduction)(data)["loss_critic"]
    torch.testing.assert_close(other.sum() / 18, mean)


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="median"):
        ActorLoss(Actor(MAKERS["independent normal"]), reduction="median")(rollouts(6))


def test_empty_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="ActorLoss: advantage must be"):
        ActorLoss(Actor(MAKERS["tanh normal"]))(rollouts(0))


def test_sparse_tensors_are_refused() -> None:
    data = rollouts(6)
    data["weight"] = data["weight"].to_sparse()
    with pytest.raises(ValueError, match=r"weight must be .*got torch.sparse_coo"):
        ActorLoss(Actor(MAKERS["tanh normal"]))(data)


def test_a_gaussian_latent_has_the_kl_of_torch() -> None:
    def latent(params: Tensor) -> Independent:
        return Independent(Normal(params[..., :2], params[..., 2:].exp()), 1)

    loss = WorldModelLoss(make_tiny().agent.world_model, latent=latent, free_nats=0.0)
    post, prior = (torch.randn(3, 5, 4, requires_grad=True) for _ in range(2))
    terms = loss._kl_terms(TensorDict(post_logits=post, prior_logits=prior))
    expected = torch.distributions.kl_divergence(latent(post), latent(prior)).mean()
    torch.testing.assert_close(terms["kl"], expected.detach())
    dyn = torch.autograd.grad(terms["loss_dyn"], [post, prior], allow_unused=True)
    assert dyn[0] is None and float(dyn[1].abs().sum()) > 0
