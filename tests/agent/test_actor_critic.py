from __future__ import annotations

import torch
from tiny import make_tiny
from torchrl.envs import ExplorationType, set_exploration_type

from mario_dreamer.agent.critic import SlowCritic
from mario_dreamer.agent.policy import Policy


def parameters(module: torch.nn.Module) -> list[torch.Tensor]:
    return [param.detach().clone() for param in module.parameters()]


def test_the_slow_critic_begins_as_a_copy_of_its_own() -> None:
    critic = make_tiny().agent.critic
    slow = SlowCritic(critic)
    before = parameters(slow)
    for one, two in zip(slow.parameters(), critic.parameters(), strict=True):
        assert torch.equal(one, two) and one is not two
        assert not one.requires_grad and two.requires_grad
    with torch.no_grad():
        for param in critic.parameters():
            param.add_(1.0)
    for one, two in zip(before, slow.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_slow_critic_takes_over_two_percent_a_step() -> None:
    critic = make_tiny().agent.critic
    slow = SlowCritic(critic)
    first = parameters(critic)
    with torch.no_grad():
        for param in critic.parameters():
            param.add_(torch.randn_like(param))
    slow.follow(critic)
    for old, new, now in zip(first, critic.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(now, 0.98 * old + 0.02 * new)


def test_the_policy_carries_its_state_to_the_next_step() -> None:
    tiny = make_tiny()
    root = tiny.env.reset()
    assert float(root["deter"].abs().sum() + root["prev_action"].abs().sum()) == 0.0
    played, after = tiny.env.step_and_maybe_reset(tiny.policy(root))
    for key in ("deter", "stoch", "prev_action"):
        assert torch.equal(played["next", key], after[key]), key
    assert torch.equal(after["prev_action"], played["action"].float())
    assert float(after["stoch"].sum()) == 2 * 3


def test_a_reset_erases_the_state_of_that_env_alone() -> None:
    tiny = make_tiny("env.length=[2,5]")
    root = tiny.env.reset()
    for _ in range(2):
        _, root = tiny.env.step_and_maybe_reset(tiny.policy(root))
    assert root["is_init"].flatten().tolist() == [True, False]
    assert float(root["deter"][0].abs().sum()) == 0.0
    assert float(root["deter"][1].abs().sum()) > 0.0
    assert root["prev_action"].sum(-1).tolist() == [0.0, 1.0]


def test_an_action_is_a_one_hot_of_the_environments_kind() -> None:
    tiny = make_tiny()
    played = tiny.policy(tiny.env.reset())
    assert played["action"].dtype == torch.int64
    assert tiny.env.action_spec.is_in(played["action"])


def opinionated(tiny: object) -> object:
    """An actor that prefers action 2, with probability 0.77."""
    out = [module for module in tiny.agent.actor.head.modules() if hasattr(module, "bias")][-1]
    with torch.no_grad():
        out.weight.zero_()
        out.bias.copy_(torch.tensor([0.0, 0.0, 2.0]))
    return tiny


def actions(tiny: object, kind: ExplorationType) -> torch.Tensor:
    """How often each action is chosen in 500 games that begin alike."""
    root = tiny.env.reset()[:1].expand(500).clone()
    with set_exploration_type(kind):
        return tiny.policy(root)["action"].float().mean(0)


def test_training_samples_actions_and_greedy_play_does_not() -> None:
    tiny = opinionated(make_tiny())
    sampled = actions(tiny, ExplorationType.RANDOM)
    assert 0.65 < float(sampled[2]) < 0.9 and float(sampled[0]) > 0.03
    for kind in (ExplorationType.DETERMINISTIC, ExplorationType.MODE, ExplorationType.MEAN):
        assert actions(tiny, kind).tolist() == [0.0, 0.0, 1.0]


def test_a_collector_samples() -> None:
    tiny = opinionated(make_tiny())
    shares = tiny.collect(60)["action"].float().mean((0, 1))
    assert 0.65 < float(shares[2]) < 0.9


def test_a_uniform_policy_asks_nobody() -> None:
    tiny = opinionated(make_tiny())
    tiny.policy.uniform = True
    shares = actions(tiny, ExplorationType.RANDOM)
    assert (shares > 0.2).all()


def test_the_policy_plays_in_bfloat16_and_hands_out_float32() -> None:
    tiny = make_tiny()
    policy = Policy(tiny.agent.world_model, tiny.agent.actor, torch.bfloat16)
    played = policy(tiny.env.reset())
    assert played["next", "deter"].dtype == torch.float32
    assert bool(torch.isfinite(played["next", "deter"]).all())


def test_a_policy_of_no_gradient_leaves_none_behind() -> None:
    tiny = make_tiny()
    played = tiny.policy(tiny.env.reset())
    assert not any(value.requires_grad for value in played.values(True, True))


def test_a_uniform_policy_has_no_likeliest_action() -> None:
    tiny = opinionated(make_tiny())
    tiny.policy.uniform = True
    shares = actions(tiny, ExplorationType.DETERMINISTIC)
    assert (shares > 0.2).all()
