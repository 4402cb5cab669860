"""Mario on the real emulator: both backends, a win, a death, limits, randomness, resume."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torch import Tensor
from torch.nn.functional import one_hot
from torchrl.envs import TransformedEnv, check_env_specs

from mario_dreamer.envs.mario import game
from mario_dreamer.envs.mario.batched import BatchedMario
from mario_dreamer.envs.mario.buttons import action_names
from mario_dreamer.envs.mario.emulator import button_byte
from mario_dreamer.envs.mario.make import make_mario_env
from mario_dreamer.envs.mario.rewards import MarioReward
from mario_dreamer.envs.mario.transforms import DeathScreen
from mario_dreamer.envs.screens import shrink

pytest.importorskip("gym_super_mario_bros", reason="needs the emulator, Python 3.13+")
pytestmark = pytest.mark.rom

RUNS = ("right", "right+A", "right+B", "right+A+B")  # the bytes 128, 129, 130, 131
BACKENDS = ("batched", "serial")
LAST = 12  # steps of the winning run that both backends play


def winning_actions() -> list[int]:
    """The winning run of 1-1 as indices into `RUNS`, 314 agent steps of 4 frames."""
    return (np.load(Path(__file__).parent / "win-1-1.npy").astype(int) - 128).tolist()


def play(env: TransformedEnv, actions: list[int]) -> TensorDict:
    """Play one env until the episode or the list of actions ends; [n]."""
    size, steps = env.action_spec.shape[-1], iter(actions)

    def act(tensordict: TensorDict) -> TensorDict:
        return tensordict.set("action", one_hot(torch.tensor([next(steps)]), size))

    return env.rollout(len(actions), act)[0]


def hold(name: str, steps: int = 60, **options: object) -> TensorDict:
    """Hold one button from the start of 1-1."""
    env = make_mario_env(action_set=[name], **options)
    return play(env, [0] * steps)


def assert_same(one: TensorDict, other: TensorDict) -> None:
    """Every key equal, to the bit."""
    keys = set(one.keys(True, True))
    assert keys == set(other.keys(True, True))
    for key in keys:
        assert one[key].dtype == other[key].dtype, key
        assert torch.equal(one[key], other[key]), key


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
    with pytest.raises(ValueError, match="holds 1 games, this env has 2"):
        other.base_env.load_state_dict(saved["env"] | {"games": saved["env"]["games"][:1]})


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
