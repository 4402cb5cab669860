"""The MLflow model: the agent's actions from raw frames, a memory for each episode, tags."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import gym_examples  # noqa: F401
import mlflow
import numpy as np
import pytest
import tiny
import torch
from gymnasium import spaces

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
from mario_dreamer.envs.torchrl import transforms_of
from mario_dreamer.exporting import mlflow_model
from mario_dreamer.exporting.acting_program import ActingProgram
from mario_dreamer.exporting.mlflow_model import log_model, save_model
from mario_dreamer.exporting.mlflow_player import DreamerPlayer
from mario_dreamer.exporting.program_file import (
    ProgramFile,
    describe,
    example_inputs,
    picture_rules,
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    agent = tiny.make_tiny()
    tiny.depend_on_what_is_seen(agent.agent.actor)
    acting = ActingProgram(agent.policy)
    path = tmp_path_factory.mktemp("model") / "policy.pt2"
    ProgramFile(acting, agent.env, {}).write(path, "runs/a", 123)
    return path


@pytest.fixture(scope="module")
def model(program: Path) -> mlflow.pyfunc.PyFuncModel:
    folder = save_model(program, program.with_suffix(".json"), program.parent / "model")
    return mlflow.pyfunc.load_model(str(folder))


def play(model: mlflow.pyfunc.PyFuncModel, frames: np.ndarray, **params) -> list[int]:
    return [
        int(model.predict(frame[None], {**params, "reset": step == 0})["action"].iloc[0])
        for step, frame in enumerate(frames)
    ]


@pytest.fixture
def frames() -> np.ndarray:
    return torch.randint(0, 256, (12, 16, 16, 3), dtype=torch.uint8).numpy()


def test_the_model_acts_as_the_program_does(
    model: mlflow.pyfunc.PyFuncModel, program: Path, frames: np.ndarray
) -> None:
    acting = torch.export.load(program).module()
    inputs = example_inputs(ActingProgram(tiny.make_tiny().policy), {"pixels": (3, 16, 16)}, 1)
    generator, expected = torch.Generator().manual_seed(5), []
    for step, frame in enumerate(frames):
        pixels = torch.from_numpy(frame).permute(2, 0, 1)[None]
        noise = torch.rand(1, 4, generator=generator)
        first = torch.tensor([step == 0])
        out = acting(**inputs | {"observation": {"pixels": pixels}, "noise": noise,
                                 "is_first": first})  # fmt: skip
        expected.append(int(out["action"].argmax()))
        inputs |= {"prev_action": out["action"], "deter": out["deter"], "stoch": out["stoch"]}
    assert play(model, frames, episode="one", seed=5) == expected
    assert len(set(expected)) > 1


def test_episodes_side_by_side_do_not_know_of_each_other(
    model: mlflow.pyfunc.PyFuncModel, frames: np.ndarray
) -> None:
    alone = {name: play(model, frames[::way], episode=name, seed=way)
             for name, way in (("a", 1), ("b", -1))}  # fmt: skip
    mixed: dict[str, list[int]] = {"a": [], "b": []}
    for step in range(len(frames)):
        for name, way in (("a", 1), ("b", -1)):
            params = {"episode": name, "reset": step == 0, "seed": way}
            row = model.predict(frames[::way][step][None], params).iloc[0]
            mixed[name].append(int(row["action"]))
            assert row["step"] == step and row["name"] == f"action {row['action']}"
    assert mixed == alone


def test_a_new_name_opens_an_episode_and_greedy_needs_no_luck(
    model: mlflow.pyfunc.PyFuncModel, frames: np.ndarray
) -> None:
    first = model.predict(frames[:1], {"episode": "new", "greedy": True})
    second = model.predict(frames[:1], {"episode": "new", "greedy": True})
    assert first["step"].tolist() == [0] and second["step"].tolist() == [1]


@pytest.mark.parametrize("shapes", [
    {"pixels": (1, 16, 16)}, {"vector": (4,)}, {"pixels": (3, 16, 16), "vector_joints": (2,)},
])  # fmt: skip
def test_each_kind_of_observation_has_its_own_signature(
    shapes: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    seen = {
        key: {"shape": ["N", *shape], "dtype": "uint8" if len(shape) == 3 else "float32"}
        for key, shape in shapes.items()
    }
    card = {"inputs": {"observation": seen}, "picture": None, "buttons": None}
    names = mlflow_model._signature(card).inputs.input_names()
    assert names == ([0] if list(shapes) == ["pixels"] else list(shapes))
    player = DreamerPlayer()
    player.card = card
    example = mlflow_model._input_example(card)
    found = player.observation(example)
    assert {key: tuple(value.shape[1:]) for key, value in found.items()} == shapes
    with pytest.raises(ValueError, match="expected"):
        player.observation({"other": example})


def test_a_model_plays_cartpole_from_its_numbers(tmp_path: Path) -> None:
    agent = tiny.make_tiny("env=cartpole", without=("env", "env.image_size", "env.length"))
    acting = ActingProgram(agent.policy)
    path = tmp_path / "policy.pt2"
    card = ProgramFile(acting, agent.env, {}).write(path, "runs/a", 1)
    model = mlflow.pyfunc.load_model(str(save_model(path, card, tmp_path / "model")))
    state = {"vector": np.zeros((1, 4), np.float32)}
    assert model.predict(state, {"seed": 3})["action"].iloc[0] in (0, 1)
    with pytest.raises(Exception, match="vector"):
        model.predict({"vector": np.zeros((1, 3), np.float32)})


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 8, 16, 3), np.uint8), np.zeros((1, 16, 16, 3), np.float32),
              np.zeros((0, 16, 16, 3), np.uint8)],
)  # fmt: skip
def test_other_frames_are_refused_with_a_reason(
    model: mlflow.pyfunc.PyFuncModel, wrong: np.ndarray
) -> None:
    with pytest.raises(Exception, match=r"[Ss]hape|type|at least one frame"):
        model.predict(wrong)


def test_what_lies_in_the_model_is_what_playing_needs(program: Path) -> None:
    folder = save_model(program, program.with_suffix(".json"), program.parent / "again")
    needed = (folder / "requirements.txt").read_text().split()
    assert [line.split("==")[0] for line in needed] == ["mlflow", "torch", "numpy", "pandas"]
    assert all("==" in line and "+" not in line for line in needed)
    assert (folder / "mlflow_player.py").is_file() and (folder / "input_example.json").is_file()
    (program.parent / "other").mkdir()
    (program.parent / "other" / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match="no MLflow model; choose another"):
        save_model(program, program.with_suffix(".json"), program.parent / "other")


@pytest.mark.slow
def test_a_registered_version_carries_its_evaluation(program: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tags = {"success_rate": "0.5000", "stage": "1-1"}
    before = mlflow.get_tracking_uri()
    try:
        made = log_model(program, program.with_suffix(".json"), uri, register="toy", tags=tags)
        assert made == "models:/toy/1"
        mlflow.set_tracking_uri(uri)
        client = mlflow.MlflowClient(uri)
        version = client.get_model_version("toy", "1")
        assert tags.items() <= version.tags.items()
        assert client.get_run(version.run_id).info.status == "FINISHED"
        loaded = mlflow.pyfunc.load_model(made)
        assert loaded.predict(np.zeros((1, 16, 16, 3), np.uint8))["step"].tolist() == [0]
        info = client.get_run(version.run_id).info
        again = log_model(program, program.with_suffix(".json"), uri, info.run_id, register="toy")
        assert again == "models:/toy/1", "the same weights are one version"
        assert client.get_run(info.run_id).info.end_time == info.end_time  # the run is untouched
    finally:
        mlflow.set_tracking_uri(before)


@pytest.mark.parametrize(("grayscale", "side"), [(False, (20, 30, 3)), (True, (16, 16, 1))])
def test_the_player_takes_the_size_of_the_env_where_it_resizes(
    grayscale: bool, side: tuple[int, ...]
) -> None:
    options = {"space": spaces.Box(0, 255, (20, 30, 3), np.uint8)}
    env = make_gym_env("DreamerTest/Sampled-v0", image_size=16, grayscale=grayscale, options=options)
    shown = tuple(env.observation_spec["pixels"].shape[1:])
    program = SimpleNamespace(
        policy=SimpleNamespace(world_model=SimpleNamespace(observation_keys=["pixels"])),
        actor=SimpleNamespace(kind="onehot"),
    )
    player = DreamerPlayer()
    seen = {"observation": {"pixels": {"shape": ["N", *shown], "dtype": "uint8"}}}
    player.card = {**describe(program, env, {}), "inputs": seen}
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
@pytest.mark.parametrize("max_pool", [True, False])
def test_raw_frames_become_the_pixels_of_the_env_bit_for_bit(max_pool: bool) -> None:
    env, names = make_mario_env(crop_top=32, max_pool=max_pool), actions_of("simple")
    player = DreamerPlayer()
    options = {"stage": "1-1", "crop_top": 32, "max_pool": max_pool}
    seen = {"observation": {"pixels": {"shape": ["N", 3, 64, 64]}}}
    player.card = json.loads(json.dumps({"picture": picture_rules(options, (64, 64)), "inputs": seen}))
    emulator = make_emulator("1-1")
    emulator.reset()
    frames = np.empty((1, *SCREEN), np.uint8)
    copy_screen(emulator, frames[0])
    state = env.reset()
    for step in range(24):
        assert torch.equal(player.picture(frames), state["pixels"])
        choice = [1, 2, 4, 5][step % 4]
        action = torch.zeros(1, 7, dtype=torch.int64)
        action[0, choice] = 1
        state = env.step(state.set("action", action))["next"]
        frames = np.empty((4, *SCREEN), np.uint8)
        for frame in frames:
            emulator.step(button_byte(names[choice]))
            copy_screen(emulator, frame)
    emulator.close()
    env.close()
