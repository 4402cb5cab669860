"""Our formulas against TorchRL's public ones: two implementations that never saw each other."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from tiny import make_tiny
from torch import nn
from torchrl.objectives import categorical_kl_terms
from torchrl.objectives.value.functional import td_lambda_return_estimate
from torchrl.trainers.algorithms import DreamerV3Optimizer

from mario_dreamer.losses import WorldModelLoss
from mario_dreamer.losses.targets import lambda_return
from mario_dreamer.training.optim import ClippedOptimizer, LaProp


@pytest.mark.parametrize("lmbda", [0.0, 0.5, 0.95, 1.0])
def test_lambda_returns_of_rollouts_agree(lmbda: float) -> None:
    reward, value, discount = torch.randn(5, 8, 1), torch.randn(5, 8, 1), torch.rand(5, 8, 1)
    never = torch.zeros(5, 7, 1, dtype=torch.bool)
    theirs = td_lambda_return_estimate(
        discount[:, 1:], lmbda, value[:, 1:], reward[:, 1:], never, never, rolling_gamma=True
    )
    ours = lambda_return(reward, value, discount, None, lmbda)
    torch.testing.assert_close(ours, theirs)


def test_lambda_returns_agree_over_deaths_and_time_limits() -> None:
    reward, value = torch.randn(6, 9, 1), torch.randn(6, 9, 1)
    is_last = torch.rand(6, 9, 1) < 0.4
    is_terminal = is_last & (torch.rand(6, 9, 1) < 0.5)
    theirs = td_lambda_return_estimate(
        0.9, 0.95, value[:, 1:], reward[:, 1:], is_last[:, 1:], is_terminal[:, 1:]
    )
    ours = lambda_return(reward, value, 0.9 * (~is_terminal).float(), is_last, 0.95)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("free_nats", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("unimix", [0.0, 0.01])
def test_both_kl_terms_and_their_gradients_agree(free_nats: float, unimix: float) -> None:
    world_model = make_tiny().agent.world_model
    loss = WorldModelLoss(world_model, free_nats=free_nats, unimix=unimix, beta_rep=1.0)
    logits = [torch.randn(4, 5, 3, 4, requires_grad=True) for _ in range(2)]
    theirs = categorical_kl_terms(*logits, free_nats=free_nats, unimix=unimix)
    terms = loss._kl_terms({"post_logits": logits[0], "prior_logits": logits[1]})
    ours = terms["loss_dyn"], terms["loss_rep"]
    torch.testing.assert_close(ours, theirs)
    for mine, other in zip(ours, theirs, strict=True):
        one = torch.autograd.grad(mine, logits, retain_graph=True, materialize_grads=True)
        two = torch.autograd.grad(other, logits, retain_graph=True, materialize_grads=True)
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-4)


def test_laprop_agrees_with_torchrls_dreamerv3optimizer() -> None:
    mine, other = nn.Linear(4, 3), nn.Linear(4, 3)
    other.load_state_dict(mine.state_dict())
    ours = ClippedOptimizer({"agent": mine}, LaProp, lr=0.01, agc=0.3, warmup=5)
    reference = DreamerV3Optimizer(other.parameters(), lr=0.01, agc=0.3, warmup_steps=5)
    for update in range(20):
        for one, two in zip(mine.parameters(), other.parameters(), strict=True):
            one.grad = torch.randn_like(one) * 10.0 ** (update % 5 - 2)
            two.grad = one.grad.clone()
        ours.step()
        reference.step()
        for one, two in zip(mine.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_the_actor_loss_agrees_with_plain_reinforce() -> None:
    tiny = make_tiny("actor.unimix=0.0", "actor.outscale=1.0")
    rollouts = TensorDict(
        feat=torch.randn(6, 4, 28), action=torch.eye(3)[torch.randint(3, (6, 3))],
        advantage=torch.randn(6, 3, 1), weight=torch.rand(6, 4, 1), batch_size=[6],
    )  # fmt: skip
    found = tiny.learner.actor_loss(rollouts)["loss_actor"]
    logits = tiny.agent.actor.head(rollouts["feat"][:, :3])
    policy = torch.distributions.OneHotCategorical(logits=logits)
    gain = policy.log_prob(rollouts["action"]) * rollouts["advantage"][..., 0] + 3e-4 * policy.entropy()
    torch.testing.assert_close(found, -(rollouts["weight"][:, :3, 0] * gain).mean())
