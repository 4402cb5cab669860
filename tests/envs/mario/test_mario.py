"""Mario on the real emulator: both backends, a win, a death, limits, randomness, resume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torch import Tensor
from torch.nn.functional import one_hot
from torchrl.envs import TransformedEnv, check_env_specs

from mario_dreamer.envs.mario.batched import BatchedMario
from mario_dreamer.envs.mario.emulator import button_byte
from mario_dreamer.envs.mario.make import make_mario_env
from mario_dreamer.envs.mario.rewards import MarioReward
from mario_dreamer.envs.screens import shrink

pytest.importorskip("gym_super_mario_bros", reason="needs the emulator, Python 3.13+")
pytestmark = pytest.mark.rom

RUNS = ("right", "right+A", "right+B", "right+A+B")  # the bytes 128, 129, 130, 131
BACKENDS = ("batched", "serial")


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


@pytest.fixture(scope="module")
def wins() -> dict[str, TensorDict]:
    """The winning run in both backends."""
    return {
        b: play(make_mario_env(action_set=RUNS, backend=b), winning_actions()) for b in BACKENDS
    }


def test_both_backends_play_the_same_winning_run(wins: dict[str, TensorDict]) -> None:
    assert_same(wins["batched"], wins["serial"])


def test_the_flag_of_1_1_is_at_3161_and_earns_a_thousand(wins: dict[str, TensorDict]) -> None:
    played = wins["batched"]
    last = played[-1]["next"]
    assert len(played) == 314 and last["x_pos"] == 3161 and last["x_max"] == 3161
    assert last["flag"] and last["terminated"] and last["done"] and not last["truncated"]
    assert not played["next", "flag"][:-1].any()
    # From the raw frames: 3124 px to the right (and 3 back), clock 400 to 338.
    seed_reward = 3124 + 1000 - 0.1 * 62
    assert last["episode_reward"].item() == pytest.approx(seed_reward, abs=0.01)
    assert last["reward"].item() == pytest.approx(1000 + 3161 - 3146, abs=0.11)


def test_backward_telescopes_to_the_distance() -> None:
    rules = MarioReward(backward=True, time=0.0, scale=0.1)
    played = play(make_mario_env(action_set=["right+B", "left"], reward=rules), [0] * 8 + [1] * 12)
    last = played[-1]["next"]
    assert 40 < last["x_pos"] < last["x_max"]
    assert last["episode_reward"].item() == pytest.approx(0.1 * (last["x_pos"].item() - 40))


def test_the_package_reward_of_the_winning_run_is_3077() -> None:
    env = make_mario_env(action_set=RUNS, reward=MarioReward(kind="package"))
    assert play(env, winning_actions())["next", "reward"].sum().item() == 3077


@pytest.mark.parametrize(
    "name, x, ticks, frames", [("right", 296, 8, 160), ("right+B", 315, 5, 106)]
)
def test_a_death_costs_fifteen_and_is_terminal(name: str, x: int, ticks: int, frames: int) -> None:
    # x, clock ticks and frames were read from the emulator itself, frame by frame.
    played = hold(name)
    last = played[-1]["next"]
    assert len(played) == -(-frames // 4) and last["x_pos"] == x and last["life"] == 2
    assert last["terminated"] and not last["truncated"] and not last["flag"]
    assert last["episode_reward"].item() == pytest.approx(x - 40 - 15 - 0.1 * ticks, abs=0.01)


@pytest.mark.parametrize(
    "repeat, max_pool",
    [
        (3, True),
        (5, False),
        pytest.param(1, False, marks=pytest.mark.slow),
        pytest.param(4, True, marks=pytest.mark.slow),
    ],
)
def test_both_backends_cut_the_last_step_short(repeat: int, max_pool: bool) -> None:
    options = {"action_repeat": repeat, "max_pool": max_pool, "image_size": 96, "crop_top": 32}
    runs = {b: hold("right+B", 120, backend=b, **options) for b in BACKENDS}
    assert_same(runs["batched"], runs["serial"])
    assert len(runs["batched"]) == -(-106 // repeat)  # with 3, the last step has one frame


@pytest.mark.parametrize(
    "backend", ["batched", pytest.param("serial", marks=pytest.mark.slow)]
)
def test_a_black_death_screen_changes_only_deaths(backend: str) -> None:
    options = {"action_set": ["right+B"], "backend": backend}
    env = make_mario_env(num_envs=2, death_screen="black", **options)
    black = env.rollout(30, lambda td: td.set("action", torch.ones(2, 1, dtype=torch.int64)),
                        break_when_any_done=False)  # fmt: skip
    env = make_mario_env(num_envs=2, **options)
    game = env.rollout(30, lambda td: td.set("action", torch.ones(2, 1, dtype=torch.int64)),
                       break_when_any_done=False)  # fmt: skip
    dead = black["next", "terminated"].squeeze(-1)
    assert dead.sum() == 2  # right+B meets the first goomba in the 27th step
    assert (black["next", "pixels"][dead] == 0).all()
    assert torch.equal(black["next", "pixels"][~dead], game["next", "pixels"][~dead])
    assert torch.equal(black["pixels"], game["pixels"])
    assert game["next", "pixels"][dead].any()


@pytest.mark.parametrize("repeat", [3, 4])  # the last step has one frame, or two
def test_a_step_cut_short_shows_its_last_frame_alone(repeat: int) -> None:
    env = make_mario_env(action_set=["right+B"], action_repeat=repeat, max_pool=True)
    last = play(env, [0] * 60)[-1]["next"]
    assert last["done"]
    assert torch.equal(last["pixels"], shrink(env.screens()[0], 64, 64))


def test_max_pool_keeps_the_brighter_of_two_frames() -> None:
    pooled = hold("right+B", 9, max_pool=True)
    env = BatchedMario()
    env.reset()
    right_b = torch.full((1, 1), button_byte("right+B"), dtype=torch.int16)
    raw = []
    for _ in range(36):
        env.step(TensorDict(action=right_b, batch_size=[1]))
        raw.append(env.screens()[0])
    for step in range(9):
        expected = shrink(torch.maximum(raw[4 * step + 2], raw[4 * step + 3]), 64, 64)
        assert torch.equal(pooled["next", "pixels"][step], expected)
    assert not torch.equal(raw[-1], raw[-2])


@pytest.mark.parametrize("backend", BACKENDS)
def test_mario_keeps_his_specs(backend: str) -> None:
    env = make_mario_env(num_envs=2, backend=backend, stage="1-2", action_set="complex")
    check_env_specs(env)
    assert env.action_spec.shape == (2, 12)
    assert env.observation_spec["pixels"].shape == (2, 3, 64, 64)


def random_play(env: TransformedEnv, steps: int) -> TensorDict:
    """The same random actions each time."""
    torch.manual_seed(0)
    return env.rollout(steps, break_when_any_done=False)


def test_both_backends_draw_the_same_random_numbers() -> None:
    options = {"random_noops": 30, "sticky": 0.3, "stall_limit": 8, "max_steps": 25, "seed": 1}
    runs = [
        random_play(make_mario_env(num_envs=2, backend=backend, **options), 30)
        for backend in BACKENDS
    ]
    assert_same(*runs)
    assert runs[0]["next", "truncated"].any() and not runs[0]["next", "terminated"].any()


def test_randomness_follows_the_seed_and_differs_between_envs() -> None:
    env = make_mario_env(num_envs=2, seed=5, random_noops=30, sticky=0.3, max_steps=8)
    one = random_play(env, 12)
    env.set_seed(5)
    assert_same(one, random_play(env, 12))
    env.set_seed(6)
    other = random_play(env, 2)
    assert not torch.equal(one["pixels"][:, :2], other["pixels"])
    assert torch.equal(one[1]["pixels"][0], other[0]["pixels"][0])  # env i draws from seed + i


def test_a_sticky_probability_of_one_holds_noop_for_ever() -> None:
    stuck = play(make_mario_env(action_set=RUNS, sticky=1.0), [2] * 10)
    free = play(make_mario_env(action_set=["noop"]), [0] * 10)
    assert torch.equal(stuck["next", "pixels"], free["next", "pixels"])
    assert stuck["action"].argmax(-1).tolist() == [2] * 10  # the chosen action is what is kept


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

    env, calm = make_mario_env(num_envs=2), make_mario_env(num_envs=2)
    now, start = env.reset(), calm.reset()
    still = start
    for _ in range(8):
        now, still = step(env, now), step(calm, still)
    now = env.reset(now.set("_reset", torch.tensor([[True], [False]])))
    assert torch.equal(now["pixels"][0], start["pixels"][0]) and now["x_max"].tolist()[0] == [40]
    assert now["is_init"].flatten().tolist() == [True, False]
    assert now["step_count"].flatten().tolist() == [0, 8]
    for _ in range(4):
        now, still = step(env, now), step(calm, still)
    for key in ("pixels", "x_pos", "x_max", "time", "step_count", "episode_reward"):
        assert torch.equal(now[key][1], still[key][1]), key


def test_a_saved_game_continues_bit_equal(tmp_path: Path) -> None:
    options = {"num_envs": 2, "random_noops": 30, "sticky": 0.5, "stall_limit": 30, "max_steps": 18}
    actions = one_hot(torch.randint(7, (30, 2), generator=torch.Generator().manual_seed(1)), 7)

    def run(env: TransformedEnv, root: TensorDict, steps: Tensor) -> tuple[TensorDict, TensorDict]:
        frames = []
        for action in steps:
            played, root = env.step_and_maybe_reset(root.set("action", action))
            frames.append(played.clone())
        return torch.stack(frames, 1), root.clone()

    env = make_mario_env(seed=3, **options)
    _, root = run(env, env.reset(), actions[:15])
    torch.save({"env": env.base_env.state_dict(), "root": root}, tmp_path / "state.pt")
    expected, _ = run(env, root.clone(), actions[15:])

    other = make_mario_env(seed=77, **options)
    other.rollout(5)
    saved = torch.load(tmp_path / "state.pt", weights_only=False)
    other.base_env.load_state_dict(saved["env"])
    now = other.base_env.current()
    assert torch.equal(now["pixels"], root["pixels"]) and torch.equal(now["time"], root["time"])
    assert_same(run(other, saved["root"], actions[15:])[0], expected)
    with pytest.raises(ValueError, match="holds 2 games, this env has 1"):
        make_mario_env().base_env.load_state_dict(saved["env"])


def test_screens_are_the_current_raw_screens_until_closed() -> None:
    env = make_mario_env(num_envs=2, max_pool=False)
    start = env.reset()
    raw = env.screens()
    assert raw.shape == (2, 240, 256, 3) and raw.dtype == torch.uint8
    assert torch.equal(shrink(raw, 64, 64), start["pixels"])
    env.close()
    assert env.is_closed


def test_a_game_that_is_over_stands_still_until_its_reset() -> None:
    env = make_mario_env(action_set=["right+B"])
    last = play(env, [0] * 60)[-1:]["next"].exclude("reward")
    buttons = torch.full((1, 4), button_byte("right+B"), dtype=torch.int16)
    after = env.base_env.step(last.set("action", buttons))["next"]
    assert after["reward"] == 0 and after["terminated"] and after["x_pos"] == 315


@pytest.mark.slow
def test_all_32_stages_begin() -> None:
    for stage in [f"{world}-{number}" for world in range(1, 9) for number in range(1, 5)]:
        start = make_mario_env(stage=stage).reset()
        assert f"{start['world'].item()}-{start['stage'].item()}" == stage
        assert start["pixels"].float().std() > 5
