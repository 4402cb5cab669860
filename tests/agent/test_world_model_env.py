"""The world model as a TorchRL env agrees with Imagination, and a plain PPO can learn in it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule
from tiny import Tiny, make_tiny
from torchrl.envs import StepCounter, TransformedEnv
from torchrl.envs.utils import check_env_specs

from mario_dreamer.agent.world_model_env import WorldModelEnv

EXAMPLE = Path(__file__).with_name("ppo_in_world_model.py")


def starts(n: int = 4) -> TensorDict:
    stoch = torch.eye(4)[torch.randint(4, (n, 3))]
    return TensorDict(deter=torch.randn(n, 16).tanh(), stoch=stoch, batch_size=[n])


def make_env(tiny: Tiny, states: TensorDictBase, **options: object) -> WorldModelEnv:
    return WorldModelEnv(
        tiny.agent.world_model, states, tiny.env.action_spec, tiny.env.batch_size[0], **options
    )


def test_it_keeps_the_contract_of_torchrl_envs() -> None:
    env = make_env(make_tiny(), starts(), decode=["pixels"])
    check_env_specs(env)
    rolled = env.rollout(3, break_when_any_done=False)
    assert rolled["next", "pixels"].shape == (2, 3, 3, 16, 16)
    assert rolled["next", "reward"].shape == rolled["next", "done"].shape == (2, 3, 1)
    assert not rolled["next", "pixels"].requires_grad


def test_the_action_spec_of_a_single_env_is_enough() -> None:
    tiny = make_tiny()
    env = WorldModelEnv(tiny.agent.world_model, starts(), tiny.env.action_spec[0], num_envs=7)
    rolled = env.rollout(2, break_when_any_done=False)
    assert rolled["action"].shape == (7, 2, 3)


def test_it_makes_the_steps_of_imagination(monkeypatch: pytest.MonkeyPatch) -> None:
    from mario_dreamer.distributions import OneHotCategorical

    likeliest = lambda self, *_, **__: self.mode  # noqa: E731
    monkeypatch.setattr(OneHotCategorical, "sample", likeliest)
    tiny = make_tiny("reward.outscale=1.0", "actor.outscale=9.0")
    world_model, actor = tiny.agent.world_model, tiny.agent.actor
    states = starts(1).expand(2).clone()
    imagined = tiny.learner.returns(tiny.learner.imagination(states))
    env = make_env(tiny, states, gamma=1e-9, sample_ends=False)  # never ends

    def act(feat: torch.Tensor) -> torch.Tensor:
        return actor.head.dist(actor.head(feat)).mode.long()

    rolled = env.rollout(3, TensorDictModule(act, ["feat"], ["action"]))
    torch.testing.assert_close(rolled["feat"], imagined["feat"][:, :-1])
    torch.testing.assert_close(rolled["next", "feat"], imagined["feat"][:, 1:])
    torch.testing.assert_close(rolled["next", "reward"], imagined["reward"][:, 1:])
    torch.testing.assert_close(rolled["action"].float(), imagined["action"])
    assert world_model.cont.get_dist(rolled["next"]).mean.min() > 1e-6


def test_predicted_ends_end_episodes() -> None:
    tiny = make_tiny()
    out = tiny.agent.world_model.cont.head.mlp.out
    with torch.no_grad():
        out.weight.zero_()
        out.bias.fill_(9.0)
    env = make_env(tiny, starts(), sample_ends=False)
    assert not bool(env.rollout(5)["next", "terminated"].any())
    with torch.no_grad():
        out.bias.fill_(-9.0)
    assert bool(env.rollout(5)["next", "terminated"][:, 0].all())
    with torch.no_grad():
        out.bias.fill_(0.0)
    sampled = make_env(tiny, starts(), sample_ends=True)
    ends = sampled.rollout(200, break_when_any_done=False)["next", "terminated"].float().mean()
    assert 0.4 < float(ends) < 0.6


def test_a_reset_of_one_env_leaves_the_others() -> None:
    tiny = make_tiny()
    env = make_env(tiny, starts())
    state = env.rand_step(env.reset())["next"]
    again = env.reset(state.clone().set("_reset", torch.tensor([[True], [False]])))
    assert not torch.equal(again["deter"][0], state["deter"][0])
    assert torch.equal(again["deter"][1], state["deter"][1])


def test_a_step_counter_ends_rollouts() -> None:
    env = TransformedEnv(make_env(make_tiny(), starts()), StepCounter(4))
    rolled = env.rollout(9, break_when_any_done=False)
    assert int(rolled["next", "step_count"].max()) <= 4


def test_states_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"WorldModelEnv: deter must be \[M=.*, D=16\]"):
        make_env(make_tiny(), TensorDict(deter=torch.zeros(3, 5), stoch=torch.zeros(3, 3, 4)))


def test_the_example_fits_a_screen() -> None:
    assert len([line for line in EXAMPLE.read_text().splitlines() if line.strip()]) <= 60


@pytest.mark.slow
def test_plain_ppo_learns_inside_the_world_model() -> None:
    found = runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert found["after"] > found["before"] + 0.3, (found["before"], found["after"])
