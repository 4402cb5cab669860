"""Mario on the real emulator: both backends, limits, randomness, resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mario_play import BACKENDS, RUNS, assert_same, play
from tensordict import TensorDict
from torch import Tensor
from torch.nn.functional import one_hot
from torchrl.envs import TransformedEnv, check_env_specs

from mario_dreamer.envs.mario.buttons import action_names
from mario_dreamer.envs.mario.make import make_mario_env
from mario_dreamer.envs.screens import shrink

pytest.importorskip("gym_super_mario_bros", reason="needs the emulator, Python 3.13+")
pytestmark = pytest.mark.rom


@pytest.mark.parametrize("backend", BACKENDS)
def test_mario_keeps_his_specs_and_names_his_actions(backend: str) -> None:
    env = make_mario_env(num_envs=2, backend=backend, stage="1-2", action_set="complex")
    check_env_specs(env)
    assert env.action_spec.shape == (2, 12) and action_names(env)[:2] == ("noop", "right")
    assert env.observation_spec["pixels"].shape == (2, 3, 64, 64)


def random_play(env: TransformedEnv, steps: int) -> TensorDict:
    """The same random actions each time."""
    torch.manual_seed(0)
    return env.rollout(steps, break_when_any_done=False)


def test_both_backends_draw_the_same_random_numbers() -> None:
    options = {"random_noops": 30, "sticky": 0.3, "max_pool": False, "max_steps": 6, "seed": 1}
    runs = [
        random_play(make_mario_env(num_envs=2, backend=backend, **options), 8)
        for backend in BACKENDS
    ]
    assert_same(*runs)
    assert runs[0]["next", "truncated"].any() and not runs[0]["next", "terminated"].any()


def test_randomness_follows_the_seed_and_differs_between_envs() -> None:
    env = make_mario_env(num_envs=2, seed=5, random_noops=30, sticky=0.3, max_steps=5)
    one = random_play(env, 7)
    env.set_seed(5)
    assert_same(one, random_play(env, 7))
    env.set_seed(6)
    other = random_play(env, 2)
    assert not torch.equal(one["pixels"][:, :2], other["pixels"])
    assert torch.equal(one[1]["pixels"][0], other[0]["pixels"][0])  # env i draws from seed + i


def test_a_sticky_probability_of_one_holds_noop_for_ever() -> None:
    stuck = play(make_mario_env(action_set=RUNS, sticky=1.0), [2] * 6)
    free = play(make_mario_env(action_set=["noop"]), [0] * 6)
    assert torch.equal(stuck["next", "pixels"], free["next", "pixels"])
    assert stuck["action"].argmax(-1).tolist() == [2] * 6  # the chosen action is what is kept


@pytest.mark.parametrize("backend", BACKENDS)
def test_limits_truncate_and_never_terminate(backend: str) -> None:
    env = make_mario_env(
        action_set=["right", "noop"], max_steps=7, stall_limit=5, backend=backend
    )
    last = play(env, [0] * 20)[-1]["next"]  # he walks: no stall
    assert last["truncated"] and not last["terminated"] and last["step_count"] == 7
    idle = play(env, [1] * 20)
    assert len(idle) == 5 and idle[-1]["next", "truncated"] and not idle[-1]["next", "terminated"]


def test_a_partial_reset_leaves_the_other_game_running() -> None:
    def step(env: TransformedEnv, root: TensorDict) -> TensorDict:
        action = one_hot(torch.full((2,), 3), 7)
        return env.step(root.set("action", action))["next"].exclude("reward")

    env = make_mario_env(num_envs=2)
    start = still = env.reset()
    for _ in range(9):
        still = step(env, still)
    now = env.reset()
    for _ in range(5):
        now = step(env, now)
    now = env.reset(now.set("_reset", torch.tensor([[True], [False]])))
    assert torch.equal(now["pixels"][0], start["pixels"][0]) and now["x_max"].tolist()[0] == [40]
    assert now["is_init"].flatten().tolist() == [True, False]
    assert now["step_count"].flatten().tolist() == [0, 5]
    for _ in range(4):
        now = step(env, now)
    for key in ("pixels", "x_pos", "x_max", "time", "step_count", "episode_reward"):
        assert torch.equal(now[key][1], still[key][1]), key


def test_a_saved_game_continues_bit_equal(tmp_path: Path) -> None:
    stages = {"stage": ["1-1", "1-2"], "max_steps": 7}
    options = {"num_envs": 2, "random_noops": 30, "sticky": 0.5, "stall_limit": 6, **stages}
    actions = one_hot(torch.randint(7, (24, 2), generator=torch.Generator().manual_seed(1)), 7)

    def run(env: TransformedEnv, root: TensorDict, steps: Tensor) -> tuple[TensorDict, TensorDict]:
        frames = []
        for action in steps:
            played, root = env.step_and_maybe_reset(root.set("action", action))
            frames.append(played.clone())
        return torch.stack(frames, 1), root.clone()

    env = make_mario_env(seed=3, **options)
    _, root = run(env, env.reset(), actions[:10])  # in the middle of the second episode
    torch.save({"env": env.base_env.state_dict(), "root": root}, tmp_path / "state.pt")
    expected, _ = run(env, root.clone(), actions[10:])
    assert expected["next", "done"].sum() == 4

    other = make_mario_env(seed=77, **options)
    other.rollout(3)
    saved = torch.load(tmp_path / "state.pt", weights_only=False)
    other.base_env.load_state_dict(saved["env"])
    now = other.base_env.current()
    assert torch.equal(now["pixels"], root["pixels"]) and torch.equal(now["time"], root["time"])
    assert_same(run(other, saved["root"], actions[10:])[0], expected)
    alone = make_mario_env(**options | {"num_envs": 1}).base_env.state_dict()
    with pytest.raises(ValueError, match=r"\[2\] in this env of 2, the state holds \[1\]"):
        other.base_env.load_state_dict(alone)


def test_screens_are_the_current_raw_screens_until_closed() -> None:
    env = make_mario_env(num_envs=2, max_pool=False)
    start = env.reset()
    raw = env.screens()
    assert raw.shape == (2, 240, 256, 3) and raw.dtype == torch.uint8
    assert torch.equal(shrink(raw, 64, 64), start["pixels"])
    env.close()
    assert env.is_closed


@pytest.mark.slow
def test_all_32_stages_begin() -> None:
    for stage in [f"{world}-{number}" for world in range(1, 9) for number in range(1, 5)]:
        start = make_mario_env(stage=stage).reset()
        assert f"{start['world'].item()}-{start['stage'].item()}" == stage
        assert start["pixels"].float().std() > 5
