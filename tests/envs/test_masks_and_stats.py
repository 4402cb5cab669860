"""Legal actions and statistics that an env reports, from its own interface to the run's metrics."""

from __future__ import annotations

from pathlib import Path

import gym_examples  # noqa: F401
import numpy as np
import pytest
import torch
from gymnasium import spaces
from tensordict import TensorDict
from tiny import make_tiny
from torchrl.data import Binary, Composite, Unbounded
from torchrl.envs import EnvBase, check_env_specs

from mario_dreamer.envs.actions import with_agent_actions
from mario_dreamer.envs.gymnasium import make_gym_env
from mario_dreamer.tracking.metrics import describe
from mario_dreamer.training.evaluation import episode_ends, play_episodes
from mario_dreamer.training.loop import train
from mario_dreamer.training.pictures import eval_metrics
from mario_dreamer.training.report import episode_metrics

VECTOR = spaces.Box(-1, 1, (2,))
LEGAL = [0, 1, 1, 0]


def make_masked(num_envs: int = 2, seed: int = 0, where: str = "info") -> EnvBase:
    """Four actions of which the first and the last are refused, with an error, by the env."""
    options = {"space": VECTOR, "actions": spaces.Discrete(4), "legal": [1, 2]}
    if where == "info":
        options["info"] = {"action_mask": np.array(LEGAL, np.int8), "stats": {"keys": 2}}
    else:
        mask = spaces.Box(0, 1, (4,), np.int8)
        options["space"] = spaces.Dict(seen=VECTOR, action_mask=mask)
        options["mask"] = LEGAL
    return make_gym_env("DreamerTest/Sampled-v0", num_envs, seed, options=options)


@pytest.mark.parametrize("where", ["info", "observation"])
def test_a_gymnasium_mask_is_kept_by_random_and_learned_actions(where: str) -> None:
    tiny = make_tiny(
        "env=own", f"env._target_={__name__}.make_masked", f"+env.where={where}",
        without=["env.image_size", "env.length", "env"],
    )  # fmt: skip
    check_env_specs(tiny.env)
    assert set(tiny.agent.world_model.shapes) == {"vector"}, "the mask is not learned from"
    tiny.env.rollout(8, break_when_any_done=False)
    for tiny.policy.uniform in (True, False):
        played = tiny.collect(8)
        assert played["action_mask"].flatten(0, 1).unique(dim=0).tolist() == [LEGAL]
        tiny.replay.extend(played)
    assert len(play_episodes(tiny.policy, tiny.env, 2, greedy=True)) == 2
    assert bool(torch.isfinite(tiny.learner.update(tiny.replay.sample())["total"]))


def test_a_mask_is_not_taken_for_another_kind_of_action() -> None:
    options = {"space": VECTOR, "actions": spaces.MultiBinary(3),
               "info": {"action_mask": np.ones(3, np.int8)}}  # fmt: skip
    with pytest.raises(ValueError, match=r"action_mask \[1, 3\] does not fit .*Binary \[1, 3\]"):
        with_agent_actions(make_gym_env("DreamerTest/Sampled-v0", options=options))
    options |= {"actions": spaces.Discrete(4)}
    with pytest.raises(ValueError, match=r"action_mask \[1, 3\] does not fit .*OneHot \[1, 4\]"):
        with_agent_actions(make_gym_env("DreamerTest/Sampled-v0", options=options))


def test_stats_of_the_info_are_statistics_of_the_episode() -> None:
    env = with_agent_actions(make_masked(1))
    assert env.observation_spec["stats", "keys"].shape == (1, 1)
    ended = episode_ends(env.rollout(9))[0]
    assert ended["stats/keys"] == 2.0
    assert episode_metrics(ended, "eval/greedy")["eval/greedy/stats/keys"] == 2.0


class Scored(EnvBase):
    """A TorchRL env that reports how many steps of its episode were even."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(batch_size=[num_envs])
        one = Unbounded((num_envs, 1))
        stats = Composite(even=one, shape=[num_envs])
        self.observation_spec = Composite(
            vector=Unbounded((num_envs, 2)), stats=stats, shape=[num_envs]
        )
        self.action_spec, self.reward_spec = Binary(3, (num_envs, 3)), one
        self.count = 0

    def _reset(self, tensordict=None, **_):
        self.count = 0
        return self._seen()

    def _step(self, tensordict):
        self.count += 1
        return self._seen().set("reward", torch.ones(*self.batch_size, 1))

    def _seen(self):
        ends = torch.full((*self.batch_size, 1), self.count == 5)
        even = torch.full((*self.batch_size, 1), float(self.count // 2))
        return TensorDict(
            {"vector": even.expand(-1, 2), "stats": {"even": even}, "done": ends,
             "terminated": ends.clone()}, self.batch_size,
        )  # fmt: skip

    def _set_seed(self, seed) -> None:
        pass


def make_scored(num_envs: int = 1, seed: int = 0) -> EnvBase:
    """Make N of them in one."""
    return Scored(num_envs)


def test_stats_reach_the_metrics_of_run_and_evaluation(tmp_path: Path) -> None:
    tiny = make_tiny(
        "env=own", f"env._target_={__name__}.make_scored", "steps=24", "log_every=24",
        "train_ratio=2", "eval_every=0", "save_every=0", without=["env.image_size", "env.length", "env"],
    )  # fmt: skip
    parts, run = tiny.parts(tmp_path)
    assert train(parts, run) == "FINISHED"
    logged = {name: value for _, values in parts.report.tracker.shown for name, value in values.items()}
    assert logged["play/stats/even"] == 2.0 and describe("play/stats/even").unit == "the env's"
    episodes = play_episodes(tiny.policy, tiny.env, 2)
    assert eval_metrics(episodes, "eval/sampled")["eval/sampled/stats/even"] == 2.0
