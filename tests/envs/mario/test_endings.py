"""How an episode of Mario ends: a win, a death, a step cut short, what is shown and paid then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from mario_play import BACKENDS, RUNS, assert_same, hold, play, winning_actions
from tensordict import TensorDict
from torch import Tensor
from torchrl.envs import TransformedEnv

from mario_dreamer.envs.mario import game
from mario_dreamer.envs.mario.batched import BatchedMario
from mario_dreamer.envs.mario.emulator import button_byte
from mario_dreamer.envs.mario.make import make_mario_env
from mario_dreamer.envs.mario.rewards import MarioReward
from mario_dreamer.envs.mario.transforms import DeathScreen
from mario_dreamer.envs.screens import shrink

pytest.importorskip("gym_super_mario_bros", reason="needs the emulator, Python 3.13+")
pytestmark = pytest.mark.rom

LAST = 12  # steps of the winning run that both backends play


@dataclass
class Win:
    """The winning run of 1-1, and its emulator, which begins the last steps at each reset."""

    played: TensorDict
    package_rewards: list[float]
    emulator: Any


@pytest.fixture(scope="module")
def win() -> Win:
    """Play it once, in the batched backend."""
    package_rewards, actions = [], winning_actions()

    def rules(track: Tensor, flag: Tensor, over: Tensor, package: Tensor) -> Tensor:
        package_rewards.append(package.item())
        if len(package_rewards) == len(actions) - LAST:
            emulator._backup()
        return MarioReward()(track, flag, over, package)

    env = make_mario_env(action_set=RUNS, reward=rules)
    emulator = env.base_env.games[0].emulator
    emulator.close = lambda: None  # it outlives its envs
    return Win(play(env, actions), package_rewards, emulator)


def test_both_backends_play_the_same_last_steps_to_the_flag(
    win: Win, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(game, "make_emulator", lambda stage: win.emulator)
    runs = [
        play(make_mario_env(action_set=RUNS, backend=backend), winning_actions()[-LAST:])
        for backend in BACKENDS
    ]
    assert_same(*runs)
    assert len(runs[0]) == LAST and runs[0]["next", "flag"].sum() == 1
    assert torch.equal(runs[0]["next", "pixels"], win.played["next", "pixels"][-LAST:])


def test_the_flag_of_1_1_is_at_3161_and_earns_a_thousand(win: Win) -> None:
    played = win.played
    last = played[-1]["next"]
    assert len(played) == 314 and last["x_pos"] == 3161 and last["x_max"] == 3161
    assert last["flag"] and last["terminated"] and last["done"] and not last["truncated"]
    assert not played["next", "flag"][:-1].any()
    # From the raw frames: 3124 px to the right (and 3 back), clock 400 to 338.
    seed_reward = 3124 + 1000 - 0.1 * 62
    assert last["episode_reward"].item() == pytest.approx(seed_reward, abs=0.01)
    assert last["reward"].item() == pytest.approx(1000 + 3161 - 3146, abs=0.11)
    assert sum(win.package_rewards) == 3077  # what MarioReward(kind="package") pays


def test_backward_telescopes_to_the_distance() -> None:
    rules = MarioReward(backward=True, time=0.0, scale=0.1)
    played = play(make_mario_env(action_set=["right+B", "left"], reward=rules), [0] * 8 + [1] * 12)
    last = played[-1]["next"]
    assert 40 < last["x_pos"] < last["x_max"]
    assert last["episode_reward"].item() == pytest.approx(0.1 * (last["x_pos"].item() - 40))


@pytest.fixture(scope="module")
def fall() -> tuple[TransformedEnv, TensorDict]:
    """An env after a run into the first goomba, and that run."""
    env = make_mario_env(action_set=["right+B"])
    return env, play(env, [0] * 60)


def test_a_death_costs_fifteen_and_is_terminal(fall: tuple[TransformedEnv, TensorDict]) -> None:
    # x, clock ticks and frames were read from the emulator itself, frame by frame.
    deaths = [(hold("right"), 296, 8, 160), (fall[1], 315, 5, 106)]
    for played, x, ticks, frames in deaths:
        last = played[-1]["next"]
        assert len(played) == -(-frames // 4) and last["x_pos"] == x and last["life"] == 2
        assert last["terminated"] and not last["truncated"] and not last["flag"]
        paid = last["episode_reward"].item()
        assert paid == pytest.approx(x - 40 - 15 - 0.1 * ticks, abs=0.01)


@pytest.mark.parametrize(
    "repeat, max_pool",
    [
        (3, True),
        pytest.param(5, False, marks=pytest.mark.slow),
        pytest.param(1, False, marks=pytest.mark.slow),
        pytest.param(4, True, marks=pytest.mark.slow),
    ],
)
def test_both_backends_cut_the_last_step_short(repeat: int, max_pool: bool) -> None:
    options = {"action_repeat": repeat, "max_pool": max_pool, "image_size": 96, "crop_top": 32}
    runs = {b: hold("right+B", 120, backend=b, **options) for b in BACKENDS}
    assert_same(runs["batched"], runs["serial"])
    assert len(runs["batched"]) == -(-106 // repeat)  # with 3, the last step has one frame


def test_a_step_cut_short_shows_its_last_frame_alone(
    fall: tuple[TransformedEnv, TensorDict],
) -> None:
    env, played = fall  # the last step has two frames
    assert torch.equal(played[-1]["next", "pixels"], shrink(env.screens()[0], 64, 64))


def test_a_game_that_is_over_stands_still_until_its_reset(
    fall: tuple[TransformedEnv, TensorDict],
) -> None:
    env, played = fall
    buttons = torch.full((1, 4), button_byte("right+B"), dtype=torch.int16)
    last = played[-1:]["next"].exclude("reward")
    after = env.base_env.step(last.set("action", buttons))["next"]
    assert after["reward"] == 0 and after["terminated"] and after["x_pos"] == 315


def test_a_black_screen_is_shown_at_deaths_alone() -> None:
    ends = [(True, False), (True, True), (False, False)]  # terminated, flag
    terminated, flag = torch.tensor(ends).T.unsqueeze(-1)
    after = TensorDict(terminated=terminated, flag=flag, pixels=torch.ones(3, 3, 2, 2))
    assert DeathScreen()._step(None, after)["pixels"].flatten(1).sum(1).tolist() == [0, 12, 12]


@pytest.mark.parametrize(
    "backend", ["batched", pytest.param("serial", marks=pytest.mark.slow)]
)
def test_a_black_death_screen_changes_only_the_last_picture(
    backend: str, fall: tuple[TransformedEnv, TensorDict]
) -> None:
    black, seen = hold("right+B", death_screen="black", backend=backend), fall[1]
    assert not black["next", "pixels"][-1].any() and seen["next", "pixels"][-1].any()
    assert torch.equal(black["next", "pixels"][:-1], seen["next", "pixels"][:-1])
    assert torch.equal(black["pixels"], seen["pixels"])


def test_max_pool_keeps_the_brighter_of_two_frames(
    fall: tuple[TransformedEnv, TensorDict],
) -> None:
    env = BatchedMario()
    env.reset()
    right_b = torch.full((1, 1), button_byte("right+B"), dtype=torch.int16)
    raw = []
    for _ in range(24):
        env.step(TensorDict(action=right_b, batch_size=[1]))
        raw.append(env.screens()[0])
    for step in range(6):
        expected = shrink(torch.maximum(raw[4 * step + 2], raw[4 * step + 3]), 64, 64)
        assert torch.equal(fall[1]["next", "pixels"][step], expected)
    assert not torch.equal(raw[-1], raw[-2])
