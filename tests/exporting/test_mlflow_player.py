"""The player inside an MLflow model: raw observations in, the env's own actions out."""

from __future__ import annotations

import json
from types import SimpleNamespace

import gym_examples  # noqa: F401
import numpy as np
import pytest
import torch
from echo_env import make_echo_env
from gymnasium import spaces
from torchrl.envs import EnvBase

from mario_dreamer.config.actions import describe_actions
from mario_dreamer.envs.actions import with_agent_actions
from mario_dreamer.envs.gymnasium import make_gym_env
from mario_dreamer.envs.mario.emulator import (
    SCREEN,
    actions_of,
    button_byte,
    copy_screen,
    make_emulator,
)
from mario_dreamer.envs.mario.make import make_mario_env
from mario_dreamer.envs.observations import ToObservations
from mario_dreamer.envs.torchrl import innermost, transforms_of
from mario_dreamer.exporting import mlflow_model
from mario_dreamer.exporting.mlflow_player import DreamerPlayer, as_env_takes_it
from mario_dreamer.exporting.program_file import describe, picture_rules


def player_of(card: dict) -> DreamerPlayer:
    """A player without a program, whose card was a file."""
    player = DreamerPlayer()
    player.card = json.loads(json.dumps(card))
    return player


def card_of(env: EnvBase, observation_key: str = "vector") -> dict:
    """What an export says of an env with the agent's actions."""
    kind, sizes = describe_actions(env.action_spec)
    program = SimpleNamespace(
        actor=SimpleNamespace(kind=kind, choices=sizes.get("choices")),
        policy=SimpleNamespace(world_model=SimpleNamespace(observation_keys=[observation_key])),
    )
    return describe(program, env, {})


@pytest.mark.parametrize(
    ("kind", "drawn", "played"),
    [("bounded", [-1.0, 0.5], [-2.0, 7.5]), ("unbounded", [-9.0, 9.0], [-9.0, 9.0]),
     ("half_bounded", [-9.0, 0.0], [0.0, 2.0]),
     ("indices", [0.0, 1.0, 0.0, 0.0, 1.0], [1, 1]), ("binary", [1.0, 0.0, 1.0], [1, 0, 1])],
)  # fmt: skip
def test_it_answers_with_the_envs_own_actions(
    kind: str, drawn: list[float], played: list[float]
) -> None:
    rules = card_of(with_agent_actions(make_echo_env(kind)))["actions"]
    assert as_env_takes_it(rules, torch.tensor(drawn)) == played


SPACES = [
    spaces.Discrete(3, start=5), spaces.MultiDiscrete([4], start=[2]),
    spaces.MultiDiscrete([3, 2], start=[5, 7]), spaces.MultiDiscrete([[3, 2], [2, 2]]),
    spaces.MultiBinary((2, 3)), spaces.Box(-2, 2, ()), spaces.Box(-2, 2, (2, 3)),
    spaces.Box(0, 255, (2,), np.uint8), spaces.MultiBinary(1),
    spaces.Box(-0.1, 0.1, (2,), np.float64),
]  # fmt: skip


@pytest.mark.parametrize(
    ("space", "parallel"),
    [*((space, False) for space in SPACES), pytest.param(SPACES[2], True, marks=pytest.mark.slow)],
    ids=str,
)
def test_it_counts_and_shapes_as_the_space_does(space: spaces.Space, parallel: bool) -> None:
    options = {"space": spaces.Box(-1, 1, (2,)), "actions": space}
    env = with_agent_actions(
        make_gym_env("gym_examples:DreamerTest/Sampled-v0", options=options, parallel=parallel)
    )
    rules = json.loads(json.dumps(card_of(env)))["actions"]
    start = env.rand_action(env.reset())
    if describe_actions(env.action_spec)[0] == "continuous":  # to the end of the range
        start["action"] = torch.ones_like(start["action"])
    played = env.step(start)["action"][0]
    answer = as_env_takes_it(rules, played.float())
    taken = next(iter(innermost(env).get_wrapper_attr("taken")))[-1]
    np.testing.assert_allclose(answer, taken, rtol=1e-6)
    assert np.shape(answer) == space.shape and np.asarray(answer, space.dtype) in space
    env.close()


@pytest.mark.parametrize("shapes", [
    {"pixels": (1, 16, 16)}, {"vector": (4,)}, {"pixels": (3, 16, 16), "vector_joints": (2,)},
])  # fmt: skip
def test_each_kind_of_observation_has_its_own_signature(shapes: dict[str, tuple[int, ...]]) -> None:
    seen = {
        key: {"shape": ["N", *shape], "dtype": "uint8" if len(shape) == 3 else "float32"}
        for key, shape in shapes.items()
    }
    card = card_of(with_agent_actions(make_echo_env("bounded")))
    card["inputs"] = {"observation": seen, "prev_action": {"shape": ["N", 2]}}
    names = mlflow_model._signature(card).inputs.input_names()
    assert names == ([0] if list(shapes) == ["pixels"] else list(shapes))
    player, example = player_of(card), mlflow_model._input_example(card)
    found = player.observation(example)
    assert {key: tuple(value.shape[1:]) for key, value in found.items()} == shapes
    with pytest.raises(ValueError, match="expected"):
        player.observation({"other": example})


@pytest.mark.parametrize(("grayscale", "side"), [(False, (20, 30, 3)), (True, (16, 16, 1))])
def test_it_takes_the_size_of_the_env_where_it_resizes(
    grayscale: bool, side: tuple[int, ...]
) -> None:
    options = {"space": spaces.Box(0, 255, (20, 30, 3), np.uint8)}
    env = with_agent_actions(
        make_gym_env("DreamerTest/Sampled-v0", image_size=16, grayscale=grayscale, options=options)
    )
    shown = tuple(env.observation_spec["pixels"].shape[1:])
    seen = {"observation": {"pixels": {"shape": ["N", *shown], "dtype": "uint8"}}}
    player = player_of({**card_of(env, "pixels"), "inputs": seen})
    assert mlflow_model._input_example(player.card).shape[1:] == side
    raw = np.random.default_rng(0).integers(0, 256, (2, *side), np.uint8)
    found = player.picture(raw)
    assert found.shape[1:] == shown
    if not grayscale:
        (view,) = transforms_of(env, ToObservations)[0].views.values()
        assert torch.equal(found[0], view(torch.from_numpy(raw[1])))
    with pytest.raises(ValueError, match=rf"uint8 \[n, {side[0]}, {side[1]}, {side[2]}\], got"):
        player.picture(raw[:, 1:])


@pytest.mark.rom
def test_raw_frames_become_the_pixels_of_the_env_bit_for_bit() -> None:
    envs, players, names = [], [], actions_of("simple")
    for max_pool in (True, False):
        envs.append(make_mario_env(crop_top=32, max_pool=max_pool))
        options = {"stage": "1-1", "crop_top": 32, "max_pool": max_pool}
        seen = {"observation": {"pixels": {"shape": ["N", 3, 64, 64]}}}
        players.append(player_of({"picture": picture_rules(options, (64, 64)), "inputs": seen}))
    emulator = make_emulator("1-1")
    emulator.reset()
    frames = np.empty((1, *SCREEN), np.uint8)
    copy_screen(emulator, frames[0])
    states, pools = [env.reset() for env in envs], 0
    for step in range(12):
        for player, state in zip(players, states, strict=True):
            assert torch.equal(player.picture(frames), state["pixels"])
        pools += not torch.equal(states[0]["pixels"], states[1]["pixels"])
        choice = [1, 2, 4, 5][step % 4]
        action = torch.zeros(1, 7, dtype=torch.int64)
        action[0, choice] = 1
        states = [
            env.step(state.set("action", action))["next"]
            for env, state in zip(envs, states, strict=True)
        ]
        frames = np.empty((4, *SCREEN), np.uint8)
        for frame in frames:
            emulator.step(button_byte(names[choice]))
            copy_screen(emulator, frame)
    assert pools > 3, "pooling two frames shows another picture where something moves"
    for one in (emulator, *envs):
        one.close()
