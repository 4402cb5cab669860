"""Every kind of action, from the env's spec to an update of the whole agent."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from echo_env import MASK, SPECS, make_echo_env
from tensordict import TensorDict
from tiny import Tiny, gradients, make_tiny, tiny_with
from torchrl.envs import ExplorationType, set_exploration_type

from mario_dreamer.config import build
from mario_dreamer.envs.actions import with_agent_actions
from mario_dreamer.networks.action_heads import BoundedNormalHead, OneHotHead
from mario_dreamer.training.loop import train


@functools.cache
def echo_agent(kind: str) -> Tiny:
    """Of a kind of action; only one test lets it learn."""
    return tiny_with("echo_env.make_echo_env", f"+env.kind={kind}")


@pytest.mark.parametrize("kind", [*SPECS, "masked"])
def test_an_agent_acts_and_learns_with_every_kind_of_action(kind: str) -> None:
    tiny = echo_agent(kind)
    tiny.policy.uniform = True
    first = tiny.collect(4)
    tiny.policy.uniform = False
    tiny.replay.extend(first)
    tiny.replay.extend(tiny.collect(8))
    assert tiny.env.action_spec.shape == first["action"].shape[:1] + first["action"].shape[2:]
    records = tiny.replay.sample()
    assert records["prev_action"].shape[-1] == tiny.env.action_spec.shape[-1]
    metrics = tiny.learner.update(records)
    assert all(bool(value.isfinite()) for name, value in metrics.items() if name != "posterior")


def test_the_env_receives_its_own_kind_of_action() -> None:
    sent = {
        "index": ([[0.0, 0.0, 1.0]] * 2, [2, 2]),
        "indices": ([[0.0, 1.0, 0.0, 0.0, 1.0]] * 2, [[1, 1]] * 2),
        "bounded": ([[-1.0, 0.5], [7.0, -7.0]], [[-2.0, 7.5], [2.0, 0.0]]),
        "unbounded": ([[-9.0, 9.0]] * 2, [[-9.0, 9.0]] * 2),
        "half_bounded": ([[-9.0, 9.0], [1.0, 0.0]], [[0.0, 3.0], [2.0, 2.0]]),
    }
    for kind, (action, received) in sent.items():
        env = with_agent_actions(make_echo_env(kind))
        root = env.reset()
        played = env.step(root.set("action", torch.tensor(action)))
        assert env.base_env.taken.tolist() == received, kind
        assert played["action"].tolist() == action, "the agent's own action is what is stored"


def test_no_masked_action_is_played_random_sampled_or_greedy() -> None:
    tiny = echo_agent("masked")
    root = tiny.env.reset()
    for uniform in (True, False):
        tiny.policy.uniform = uniform
        for kind in (ExplorationType.RANDOM, ExplorationType.DETERMINISTIC):
            with set_exploration_type(kind):
                taken = torch.stack([tiny.policy(root.clone())["action"] for _ in range(40)])
            assert not bool((taken.bool() & ~MASK).any())
    tiny.policy.uniform = True
    taken = torch.stack([tiny.policy(root.clone())["action"] for _ in range(40)])
    assert bool(taken[:, 0, 0].any() and taken[:, 0, 2].any()), "both legal actions are tried"


def test_random_steps_are_uniform_over_the_range() -> None:
    tiny = echo_agent("bounded")
    tiny.policy.uniform = True
    action = torch.stack([tiny.policy(tiny.env.reset())["action"] for _ in range(50)])
    assert 0.9 < float(action.max()) <= 1.0 and -1.0 <= float(action.min()) < -0.9
    assert 0.45 < float(action.abs().mean()) < 0.55


def test_pendulum_trains_end_to_end(tmp_path: Path) -> None:
    tiny = tiny_with(
        "pendulum.make_pendulum", "steps=64", "prefill=16", "prefill_random=true",
        "train_ratio=2", "log_every=32", "save_every=0", "eval_every=0",
    )  # fmt: skip
    assert type(tiny.agent.actor.head) is BoundedNormalHead
    before = tiny.agent.actor.head.mlp.out.weight.detach().clone()
    parts, run = tiny.parts(tmp_path)
    assert train(parts, run) == "FINISHED"
    assert tiny.learner.updates > 3
    assert not torch.equal(before, tiny.agent.actor.head.mlp.out.weight)


@pytest.mark.parametrize("actor", ["bounded_normal", "tanh_normal", "truncated_normal"])
def test_continuous_actors_begin_in_the_middle_and_learn_by_both_gradients(actor: str) -> None:
    tiny = tiny_with(
        "pendulum.make_pendulum", f"actor={actor}", "critic.outscale=1.0", "reward.outscale=1.0",
    )  # fmt: skip
    own = tiny.agent.actor
    seen = TensorDict(feat=torch.randn(5, own.head.sizes["F"]), batch_size=[5])
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        written = own(seen)
    assert bool((written["action"].abs() < 0.5).all()), "almost 0 before any learning"
    records = tiny.fill(8).replay.sample()
    for tiny.cfg.actor_grad in ("reinforce", "dynamics"):
        own.zero_grad()
        learner = build.make_learner(tiny.cfg, tiny.agent)
        assert learner.actor_loss.actor_grad == tiny.cfg.actor_grad
        learner.forward_backward(records)
        assert gradients(own), tiny.cfg.actor_grad


def test_buttons_learn_by_gradients_through_the_dynamics() -> None:
    options = ["actor_grad=dynamics", "critic.outscale=1.0", "reward.outscale=1.0"]
    tiny = tiny_with("echo_env.make_echo_env", "+env.kind=binary", *options).fill(8)
    tiny.learner.forward_backward(tiny.replay.sample())
    assert gradients(tiny.agent.actor)


def test_a_head_of_another_kind_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="OneHotHead writes onehot actions, the env takes cont"):
        tiny_with("pendulum.make_pendulum", "actor=onehot")


def test_the_discrete_default_is_one_hot() -> None:
    assert type(make_tiny().agent.actor.head) is OneHotHead
