from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from tiny import gradients, make_tiny

from mario_dreamer.losses import ActorLoss


def dream(n: int = 4, horizon: int = 3, feat: int = 28) -> TensorDict:
    return TensorDict(
        feat=torch.randn(n, horizon + 1, feat, requires_grad=True),
        action=torch.eye(3)[torch.randint(3, (n, horizon))],
        advantage=torch.randn(n, horizon, 1, requires_grad=True),
        weight=torch.rand(n, horizon + 1, 1, requires_grad=True),
        batch_size=[n],
    )


def uniform(actor: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        actor.head.mlp.out.weight.zero_()
    return actor


def test_the_loss_of_a_uniform_actor_is_known() -> None:
    loss = ActorLoss(uniform(make_tiny().agent.actor), entropy_scale=3e-4)
    rollouts = dream()
    rollouts["weight"], rollouts["advantage"] = torch.full((4, 4, 1), 0.5), torch.full((4, 3, 1), 2.0)
    found = loss(rollouts)
    # -(0.5 * (2 * log(1/3) + 3e-4 * log 3)); unimix leaves a uniform actor uniform
    expected = 0.5 * (2 * math.log(3) - 3e-4 * math.log(3))
    assert float(found["loss_actor"].detach()) == pytest.approx(expected, rel=1e-5)
    assert float(found["entropy"]) == pytest.approx(math.log(3), rel=1e-5)


def test_a_better_action_becomes_likelier_and_a_worse_one_rarer() -> None:
    for sign in (1.0, -1.0):
        actor = uniform(make_tiny().agent.actor)
        rollouts = dream(1, 1)
        rollouts["action"] = torch.tensor([[[0.0, 1.0, 0.0]]])
        rollouts["advantage"], rollouts["weight"] = torch.full((1, 1, 1), sign), torch.ones(1, 2, 1)
        ActorLoss(actor, entropy_scale=0.0)(rollouts)["loss_actor"].backward()
        gradient = actor.head.mlp.out.bias.grad
        assert float(gradient[1]) * sign < 0 and float(gradient[0]) * sign > 0


def test_the_advantage_scales_the_gradient() -> None:
    def gradient(scale: float) -> torch.Tensor:
        tiny = make_tiny()
        torch.manual_seed(5)
        rollouts = dream()
        rollouts["advantage"] = rollouts["advantage"].detach() / scale
        ActorLoss(tiny.agent.actor, entropy_scale=0.0)(rollouts)["loss_actor"].backward()
        return tiny.agent.actor.head.mlp.out.weight.grad

    torch.testing.assert_close(gradient(10.0) * 10.0, gradient(1.0))


def test_the_return_range_reaches_the_actors_gradient() -> None:
    """The bug of a well known port: normalised advantages were computed and never used."""

    def gradient(span: float) -> torch.Tensor:
        tiny = make_tiny("critic.outscale=1.0")
        returns = tiny.learner.returns
        returns.norm.rate = 0.0
        returns.norm.high.fill_(span)
        states = TensorDict(deter=torch.randn(5, 16), stoch=torch.zeros(5, 3, 4), batch_size=[5])
        found = returns(tiny.learner.imagination(states))
        ActorLoss(tiny.agent.actor, entropy_scale=0.0)(found)["loss_actor"].backward()
        return tiny.agent.actor.head.mlp.out.weight.grad

    large, small = gradient(1.0), gradient(50.0)
    assert float(large.abs().sum()) > 0
    torch.testing.assert_close(small * 50.0, large, rtol=1e-3, atol=1e-7)


def test_the_last_state_has_no_action_and_no_say() -> None:
    loss = ActorLoss(make_tiny().agent.actor)
    rollouts = dream()
    one = loss(rollouts)["loss_actor"]
    with torch.no_grad():
        rollouts["feat"][:, -1], rollouts["weight"][:, -1] = 1e3, 1e3
    assert torch.equal(one, loss(rollouts)["loss_actor"])


def test_no_gradient_leaves_the_actor() -> None:
    tiny = make_tiny("critic.outscale=1.0")
    rollouts = dream()
    learner = tiny.learner
    learner.actor_loss(rollouts)["loss_actor"].backward()
    assert gradients(tiny.agent.actor)
    assert rollouts["feat"].grad is None and rollouts["advantage"].grad is None
    assert rollouts["weight"].grad is None


def test_the_actor_loss_has_gradients_of_the_actor_alone() -> None:
    tiny = make_tiny("critic.outscale=1.0").fill()
    learner = tiny.learner
    _, posterior = learner.world_model_loss(tiny.replay.sample())
    found = learner.returns(learner.imagination(posterior.select("deter", "stoch").reshape(-1)))
    learner.actor_loss(found)["loss_actor"].backward()
    assert gradients(tiny.agent.actor)
    assert gradients(tiny.agent.world_model) == gradients(tiny.agent.critic) == []
    assert gradients(learner.slow_critic) == []


def test_keywords_do_as_well_as_a_tensordict() -> None:
    loss = ActorLoss(make_tiny().agent.actor)
    rollouts = dream()
    by_name = loss(**{key: rollouts[key] for key in loss.in_keys})
    values = dict(zip(loss.out_keys, by_name, strict=True))
    assert torch.equal(values["loss_actor"], loss(rollouts)["loss_actor"])


def test_out_keys_are_what_is_written() -> None:
    loss = ActorLoss(make_tiny().agent.actor)
    found = loss(dream())
    assert set(found.keys()) == set(loss.out_keys)
    assert [key for key in found.keys() if found[key].requires_grad] == ["loss_actor"]


def test_an_advantage_without_a_graph_is_refused_for_dynamics() -> None:
    loss = ActorLoss(make_tiny().agent.actor, actor_grad="dynamics")
    rollouts = dream()
    assert loss(rollouts)["loss_actor"].requires_grad
    rollouts["advantage"] = rollouts["advantage"].detach()
    with pytest.raises(ValueError, match="'advantage' has no graph.*Imagination"):
        loss(rollouts)
