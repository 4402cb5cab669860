"""The counting env and the corridor."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torchrl.envs import check_env_specs

from mario_dreamer.envs.toy.corridor import ToyEnv, make_toy_env
from mario_dreamer.envs.toy.counting import make_counting_env


def always(index: int, actions: int):
    """A policy that takes one action for ever."""

    def act(tensordict: TensorDict) -> TensorDict:
        choice = torch.full(tensordict.batch_size, index)
        return tensordict.set("action", torch.nn.functional.one_hot(choice, actions))

    return act


@pytest.mark.parametrize("make", [make_counting_env, make_toy_env])
def test_toy_envs_keep_their_specs(make) -> None:
    check_env_specs(make(num_envs=2, seed=0))


def test_counting_env_shows_t_and_rewards_ten_t() -> None:
    played = make_counting_env(num_envs=1, length=3).rollout(7, break_when_any_done=False)[0]
    assert played["pixels"][:, 1, 2, 2].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert played["next", "pixels"][:, 1, 2, 2].tolist() == [1, 2, 3, 1, 2, 3, 1]
    assert played["next", "reward"].flatten().tolist() == [10, 20, 30, 10, 20, 30, 10]
    assert played["is_init"].flatten().tolist() == [True, False, False, True, False, False, True]
    assert played["next", "episode_reward"].flatten().tolist() == [10, 30, 60, 10, 30, 60, 10]


def test_counting_env_shows_the_action_that_led_to_a_frame() -> None:
    played = make_counting_env(num_envs=2, length=5).rollout(12, break_when_any_done=False)
    shown = played["next", "pixels"][:, :, 0, 0, 0].long()
    assert torch.equal(shown, played["action"].argmax(-1) + 1)
    assert (played["pixels"][:, :, 0, 0, 0][played["is_init"].squeeze(-1)] == 0).all()


def test_counting_env_stops_counting_in_its_pixels_at_255() -> None:
    played = make_counting_env(num_envs=1, length=300).rollout(300)[0]
    assert played["next", "pixels"][-1, 0, 1, 1] == 255
    assert played["next", "reward"][-1].item() == 3000


@pytest.mark.parametrize("ending", ["terminated", "truncated"])
def test_counting_env_ends_as_configured(ending: str) -> None:
    last = make_counting_env(num_envs=1, length=2, ending=ending).rollout(9)[0, -1]["next"]
    assert last["done"] and bool(last["terminated"]) == (ending == "terminated")
    assert bool(last["truncated"]) == (ending == "truncated")


def test_counting_envs_may_differ_in_length() -> None:
    played = make_counting_env(num_envs=2, length=[2, 3]).rollout(6, break_when_any_done=False)
    assert played["next", "done"].squeeze(-1).sum(1).tolist() == [3, 2]


def test_a_partial_reset_leaves_the_other_env_alone() -> None:
    env = make_counting_env(num_envs=2, length=9)
    now = env.rollout(4)[:, -1]["next"].exclude("reward")
    fresh = env.reset(now.set("_reset", torch.tensor([[True], [False]])))
    assert fresh["pixels"][:, 0, 1, 1].tolist() == [0, 4]


def test_the_corridor_rewards_one_at_its_right_end() -> None:
    env = make_toy_env(num_envs=4, seed=3, image_size=16, cells=4)
    start = env.reset()
    steps = 3 - env.base_env.cell  # cells to walk
    played = env.rollout(
        5, always(2, 3), auto_reset=False, tensordict=start, break_when_any_done=False
    )
    first = played["next", "done"].squeeze(-1).int().argmax(1) + 1
    assert torch.equal(first, steps)
    rewards = played["next", "reward"].squeeze(-1)
    assert torch.equal(rewards, played["next", "terminated"].squeeze(-1).float())


def test_the_corridor_is_truncated_where_nobody_walks() -> None:
    last = make_toy_env(num_envs=1, image_size=16, max_steps=6).rollout(50, always(0, 3))[0, -1]
    assert last["next", "truncated"] and not last["next", "terminated"]
    assert last["next", "step_count"] == 6


def test_the_corridor_shows_where_the_dot_is() -> None:
    env = ToyEnv(num_envs=1, image_size=16, cells=4)
    env.cell[:] = 2
    picture = env._observe()["pixels"][0]
    assert (picture[:, 7, 8:12] == 255).all() and (picture[0, 7, :8] == 0).all()


def test_starting_cells_follow_the_seed() -> None:
    starts = [make_toy_env(num_envs=16, seed=seed).reset()["pixels"] for seed in (1, 1, 2)]
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])


@pytest.mark.parametrize(
    "make, options",
    [
        (make_counting_env, {"ending": "never"}),
        (make_counting_env, {"length": [1, 2, 3], "num_envs": 2}),
        (make_counting_env, {"num_envs": 0}),
        (make_toy_env, {"cells": 2}),
        (make_toy_env, {"max_steps": 0}),
        (make_toy_env, {"action_repeat": 4}),
    ],
)
def test_bad_options_are_refused(make, options: dict) -> None:
    with pytest.raises(ValueError, match="got"):
        make(**options)
