from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from tiny import gradients, make_tiny

from mario_dreamer.agent.distribution_module import DistributionModule
from mario_dreamer.losses import CriticLoss
from mario_dreamer.losses.targets import Discount

LN_255 = 5.541264


@pytest.fixture(scope="module")
def critic() -> DistributionModule:
    """A fresh critic, which these tests do not change."""
    return make_tiny().agent.critic


def dream(n: int = 6, horizon: int = 3) -> TensorDict:
    return TensorDict(
        feat=torch.randn(n, horizon + 1, 28, requires_grad=True),
        lambda_return=torch.randn(n, horizon, 1) * 100,
        weight=torch.ones(n, horizon + 1, 1),
        batch_size=[n],
    )


def records(batch: int = 2, length: int = 3) -> TensorDict:
    flag = torch.zeros(batch, length, 1, dtype=torch.bool)
    return TensorDict(
        feat=torch.randn(batch, length, 28, requires_grad=True),
        reward=torch.randn(batch, length, 1),
        is_last=flag,
        is_terminal=flag.clone(),
        batch_size=[batch, length],
    )


def value(tensor: torch.Tensor) -> float:
    return float(tensor.detach())


def test_an_untrained_critic_loss_is_log_255_for_any_return(critic: DistributionModule) -> None:
    found = CriticLoss(critic)(dream(), records())
    assert value(found["loss_critic"]) == pytest.approx(LN_255, abs=1e-5)
    # no episode ends here, so the mean over the record is not thinned out
    assert value(found["loss_critic_replay"]) == pytest.approx(0.3 * LN_255, abs=1e-5)


def test_the_slow_critic_pulls_with_a_cross_entropy_of_its_own() -> None:
    tiny = make_tiny()
    loss = CriticLoss(tiny.agent.critic, tiny.learner.slow_critic, slow_scale=1.0)
    assert value(loss(dream())["loss_critic"]) == pytest.approx(2 * LN_255, abs=1e-5)
    half = CriticLoss(tiny.agent.critic, tiny.learner.slow_critic, slow_scale=0.5)
    assert value(half(dream())["loss_critic"]) == pytest.approx(1.5 * LN_255, abs=1e-5)


def test_the_pull_goes_to_what_the_slow_critic_says() -> None:
    tiny = make_tiny()
    with torch.no_grad():
        tiny.learner.slow_critic.head.mlp.out.bias[170] = 50.0  # certain of 871.75
        tiny.agent.critic.head.mlp.out.bias[170] = 50.0
    rollouts = dream()
    rollouts["lambda_return"].fill_(871.75384)
    loss = CriticLoss(tiny.agent.critic, tiny.learner.slow_critic)
    assert value(loss(rollouts)["loss_critic"]) < 0.01
    with torch.no_grad():
        tiny.learner.slow_critic.head.mlp.out.bias[170] = 0.0
        tiny.learner.slow_critic.head.mlp.out.bias[127] = 50.0  # certain of 0
    assert value(loss(rollouts)["loss_critic"]) == pytest.approx(50.0, abs=0.1)


def test_weights_count_and_the_last_state_does_not(critic: DistributionModule) -> None:
    loss = CriticLoss(critic)
    rollouts = dream()
    rollouts["weight"].fill_(0.25)
    rollouts["weight"][:, -1] = 1e6
    assert value(loss(rollouts)["loss_critic"]) == pytest.approx(0.25 * LN_255, abs=1e-5)


def test_the_imagined_loss_has_gradients_of_the_critic_alone() -> None:
    tiny = make_tiny("critic.outscale=1.0").fill()
    learner = tiny.learner
    _, posterior = learner.world_model_loss(tiny.replay.sample())
    found = learner.returns(learner.imagination(posterior.select("deter", "stoch").reshape(-1)))
    learner.critic_loss(found)["loss_critic"].backward()
    assert gradients(tiny.agent.critic)
    assert gradients(tiny.agent.world_model) == gradients(tiny.agent.actor) == []
    assert gradients(learner.slow_critic) == []


def test_the_replay_loss_reaches_the_world_model_too() -> None:
    tiny = make_tiny("critic.outscale=1.0").fill()
    learner = tiny.learner
    _, posterior = learner.world_model_loss(tiny.replay.sample())
    found = learner.returns(learner.imagination(posterior.select("deter", "stoch").reshape(-1)))
    learner.critic_loss(found, posterior)["loss_critic_replay"].backward()
    names = gradients(tiny.agent.world_model)
    assert any(name.startswith("encoder") for name in names)
    assert any(name.startswith("rssm") for name in names)
    assert gradients(tiny.agent.critic)
    assert gradients(tiny.agent.actor) == gradients(learner.slow_critic) == []


def test_what_returns_has_computed_is_not_computed_again() -> None:
    tiny = make_tiny("critic.outscale=1.0")
    loss = CriticLoss(tiny.agent.critic)
    rollouts = dream()
    fresh = loss(rollouts.copy())["loss_critic"]
    with_params = tiny.agent.critic(rollouts.copy())
    calls = []
    handle = tiny.agent.critic.head.register_forward_hook(lambda *_: calls.append(1))
    assert torch.equal(loss(with_params)["loss_critic"], fresh)
    handle.remove()
    assert not calls


def hand_made(loss: CriticLoss, **flags: list[float]) -> list[float]:
    """The targets of one record of four frames, with the numbers of the golden example."""
    replayed = records(1, 4)
    replayed["reward"] = torch.tensor([9.0, 1.0, 2.0, 3.0]).reshape(1, 4, 1)
    for name, flag in flags.items():
        replayed[name] = torch.tensor(flag).bool().reshape(1, 4, 1)
    returns = torch.zeros(4, 2, 1)
    returns[:, 0, 0] = torch.tensor([5.0, 10.0, 20.0, 30.0])  # R_0 of the dream from each frame
    seen: list[torch.Tensor] = []

    def remember(head: object, target: torch.Tensor, states: object) -> torch.Tensor:
        seen.append(target)
        assert torch.equal(states["feat"], replayed["feat"][:, :-1]), "R_t belongs to s_t"
        return torch.ones(target.shape[:-1])

    loss._nats = remember
    mean = loss._replay(replayed, returns)
    return [*seen[0].flatten().tolist(), float(mean)]


@pytest.mark.parametrize(
    ("flags", "targets", "share"),
    [
        ({}, [16.525, 24.5, 30.0], 1.0),
        ({"is_last": [0, 0, 1, 0], "is_terminal": [0, 0, 1, 0]}, [6.4, 2.0, 30.0], 2 / 3),
        ({"is_last": [0, 0, 1, 0]}, [14.5, 20.0, 30.0], 2 / 3),
    ],
)
def test_replay_returns_bootstrap_from_imagined_returns(
    critic: DistributionModule, flags: dict, targets: list[float], share: float
) -> None:
    loss = CriticLoss(critic, discount=Discount(0.9), lmbda=0.5)
    *found, mean = hand_made(loss, **flags)
    assert found == pytest.approx(targets, rel=1e-5)
    assert mean == pytest.approx(share), "a last frame has no return of its own"


def test_a_scale_of_zero_leaves_the_record_out(critic: DistributionModule) -> None:
    loss = CriticLoss(critic, replay_scale=0.0)
    assert set(loss(dream(), records()).keys()) == {"loss_critic"}


def test_rollouts_of_other_records_are_refused(critic: DistributionModule) -> None:
    loss = CriticLoss(critic)
    with pytest.raises(ValueError, match="5 imagined rollouts do not start from the 6 records"):
        loss(dream(5), records())


def test_a_missing_key_of_rollouts_or_records_is_named(critic: DistributionModule) -> None:
    loss = CriticLoss(critic)
    with pytest.raises(KeyError, match=r"CriticLoss: the batch of imagined rollouts lacks \['weight'\]"):
        loss(dream().exclude("weight"))
    with pytest.raises(KeyError, match=r"CriticLoss: the batch of records lacks \['is_last'\]"):
        loss(dream(), records().exclude("is_last"))


def test_out_keys_are_what_is_written(critic: DistributionModule) -> None:
    loss = CriticLoss(critic)
    assert set(loss(dream(), records()).keys()) == set(loss.out_keys)


def test_a_single_record_has_no_replayed_return(critic: DistributionModule) -> None:
    loss = CriticLoss(critic)
    with pytest.raises(ValueError, match=r"CriticLoss: reward must be .*T\+1=2"):
        loss(dream(2), records(2, 1))
