"""The delayed corridor and the memory cue."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch.nn.functional import one_hot
from torchrl.envs import check_env_specs

from mario_dreamer.envs.toy.probes import make_delayed_env, make_memory_env


def play(env, steps: int, choose) -> TensorDict:
    """Step `env` with `choose(root) -> action index [N]`."""

    def act(tensordict: TensorDict) -> TensorDict:
        return tensordict.set("action", one_hot(choose(tensordict), 2))

    return env.rollout(steps, act, break_when_any_done=False)


@pytest.mark.parametrize("make", [make_delayed_env, make_memory_env])
def test_probe_envs_keep_their_specs(make) -> None:
    check_env_specs(make(num_envs=2, seed=0, image_size=16))


@pytest.mark.parametrize("lane, pays", [(0, 0.0), (1, 1.0)])
def test_only_the_first_choice_earns_and_only_twelve_steps_later(lane: int, pays: float) -> None:
    env = make_delayed_env(num_envs=1, delay=12, image_size=16)

    def first_only(root: TensorDict) -> torch.Tensor:
        chosen = lane if root["step_count"].item() == 0 else 1 - lane
        return torch.tensor([chosen])

    played = play(env, 13, first_only)[0]
    assert played["next", "reward"].flatten().tolist() == [0.0] * 12 + [pays]
    assert played["next", "terminated"].flatten().tolist() == [False] * 12 + [True]


def test_the_lane_stays_in_sight() -> None:
    env = make_delayed_env(num_envs=2, image_size=16)
    played = play(env, 13, lambda root: torch.tensor([0, 1]))  # one env in each lane
    upper, lower = played["next", "pixels"]
    assert (upper != lower).flatten(1).any(1).all()
    assert (played["pixels"].flatten(2) == 255).any(-1).all()


def test_naming_the_cue_always_earns() -> None:
    env = make_memory_env(num_envs=8, seed=1, delay=3, image_size=16)
    played = play(env, 5, lambda root: env.base_env.cue)
    assert played["next", "reward"].squeeze(-1).sum(1).tolist() == [1.0] * 8
    assert played["next", "terminated"].squeeze(-1).sum(1).tolist() == [1] * 8
    wrong = play(env, 5, lambda root: 1 - env.base_env.cue)
    assert wrong["next", "reward"].sum() == 0


def test_the_cue_is_gone_after_the_first_frame() -> None:
    env = make_memory_env(num_envs=32, seed=1, delay=3, image_size=16)
    played = play(env, 5, lambda root: torch.zeros(32, dtype=torch.long))
    frames = played["pixels"].float().mean((-1, -2))  # [N, 5, 3]
    red, blue = env.base_env.cue == 0, env.base_env.cue == 1
    assert red.any() and blue.any()
    opening = frames[:, 0]
    assert sorted(opening.unique(dim=0).tolist()) == [[0, 0, 255], [255, 0, 0]]
    assert len(frames[:, 1:].unique(dim=0)) == 1  # all envs equal from then on
    assert frames[0, 4].tolist() == [255, 255, 255]  # the signal


def test_a_constant_answer_earns_half() -> None:
    env = make_memory_env(num_envs=64, seed=5, delay=1, image_size=16)
    played = play(env, 30, lambda root: torch.zeros(64, dtype=torch.long))
    done = played["next", "done"]
    assert played["next", "reward"][done].mean().item() == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("options", [{"delay": 0}, {"image_size": 4}, {"action_repeat": 2}])
def test_bad_options_of_probe_envs_are_refused(options: dict) -> None:
    for make in (make_delayed_env, make_memory_env):
        with pytest.raises(ValueError, match="got"):
            make(**options)
