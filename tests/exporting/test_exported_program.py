"""An agent that is exported once, as training does it: the program's file, and MLflow models of it."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pytest
import tiny
import torch
from torchrl.envs import ExplorationType, set_exploration_type

from mario_dreamer.exporting.acting_program import ActingProgram
from mario_dreamer.exporting.checkpoint_model import MODEL, CheckpointModel
from mario_dreamer.exporting.mlflow_model import log_model, save_model
from mario_dreamer.exporting.program_file import example_inputs

# What somebody without our package does: keep the state, hand in frames and noise.
FOREIGN = """
import sys, torch
sys.modules["mario_dreamer"] = None
program = torch.export.load(sys.argv[1]).module()
for episode in torch.load(sys.argv[2], weights_only=True):
    action, deter, stoch = episode["start"]
    chosen = []
    for pixels, first, noise in zip(episode["pixels"], episode["first"], episode["noise"]):
        out = program(observation={"pixels": pixels}, prev_action=action, deter=deter, stoch=stoch,
                      is_first=first, noise=noise, greedy=episode["greedy"])
        action, deter, stoch = out["action"], out["deter"], out["stoch"]
        chosen.append(action.argmax(-1).tolist())
    print(chosen)
"""


@dataclass
class Exported:
    """An agent, the writer of its models, and the model of step 10 that it wrote."""

    agent: tiny.Tiny
    write: CheckpointModel
    folder: Path
    drew_numbers: bool

    @property
    def program(self) -> Path:
        return self.folder / "artifacts" / "policy.pt2"

    @property
    def card(self) -> Path:
        return self.program.with_suffix(".json")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    agent = tiny.make_tiny()
    tiny.depend_on_what_is_seen(agent.agent.actor)
    write, before = CheckpointModel(agent.policy, agent.env, {"length": 6}), torch.get_rng_state()
    checkpoint = tmp_path_factory.mktemp("step_10")
    folder = write(checkpoint, 10)
    assert folder == checkpoint / MODEL and list(checkpoint.iterdir()) == [folder]
    return Exported(agent, write, folder, not torch.equal(torch.get_rng_state(), before))


@pytest.fixture(scope="module")
def model(exported: Exported) -> mlflow.pyfunc.PyFuncModel:
    return mlflow.pyfunc.load_model(str(exported.folder))


def let_play(agent: tiny.Tiny, greedy: bool, steps: int) -> tuple[dict, list]:
    """Let the agent play; note what it saw, its noise, and its actions."""
    rssm = agent.agent.world_model.rssm
    games, kind = 2, ExplorationType.DETERMINISTIC if greedy else ExplorationType.RANDOM
    notes: dict[str, list] = {"pixels": [], "first": [], "noise": []}
    chosen, state = [], agent.env.reset()
    with set_exploration_type(kind):
        for step in range(steps):
            notes["pixels"].append(state["pixels"].clone())
            notes["first"].append(state["is_init"].flatten().clone())
            torch.manual_seed(step)  # the numbers that the agent is about to draw
            z, a = torch.rand(games, rssm.stoch_shape[0], 1), torch.rand(games, 1)
            notes["noise"].append(torch.cat([z[..., 0], a], -1))
            torch.manual_seed(step)
            played, state = agent.env.step_and_maybe_reset(agent.policy(state))
            chosen.append(played["action"].argmax(-1).tolist())
    start = (torch.full((games, rssm.action_dim), 0.3), torch.randn(games, rssm.deter_dim),
             torch.zeros(games, *rssm.stoch_shape))  # fmt: skip
    return {**notes, "start": start, "greedy": torch.full((games,), greedy)}, chosen


def test_the_program_acts_as_the_agent_without_our_package(
    exported: Exported, tmp_path: Path
) -> None:
    episodes = [let_play(exported.agent, greedy, steps=15) for greedy in (True, False)]
    torch.save([seen for seen, _ in episodes], tmp_path / "seen.pt")
    done = subprocess.run(
        [sys.executable, "-c", FOREIGN, exported.program, tmp_path / "seen.pt"],
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert [json.loads(line) for line in done.stdout.splitlines()] == [c for _, c in episodes]
    assert all(len(set(map(str, chosen))) > 2 for _, chosen in episodes)  # not one action forever
    # over several episodes
    assert all(torch.stack(seen["first"]).sum() > 2 for seen, _ in episodes)


def test_the_card_says_what_goes_in_and_what_comes_out(exported: Exported) -> None:
    shown = json.loads(exported.card.read_text())
    assert shown["inputs"]["observation"]["pixels"] == {"shape": ["N", 3, 16, 16], "dtype": "uint8"}
    assert shown["inputs"]["noise"] == {"shape": ["N", 4], "dtype": "float32"}  # S = 3, and one
    assert shown["outputs"]["action"]["shape"] == ["N", 3]
    assert shown["action_names"] == ["action 0", "action 1", "action 2"]
    assert shown["picture"] is None and shown["buttons"] is None  # an env without a raw screen
    assert (shown["checkpoint"], shown["agent_steps"]) == (str(exported.folder.parent), 10)


def play(model: mlflow.pyfunc.PyFuncModel, frames: np.ndarray, **params) -> list[int]:
    return [
        int(model.predict(frame[None], {**params, "reset": step == 0})["action"].iloc[0])
        for step, frame in enumerate(frames)
    ]


@pytest.fixture
def frames() -> np.ndarray:
    return torch.randint(0, 256, (12, 16, 16, 3), dtype=torch.uint8).numpy()


def test_the_model_acts_as_the_program_does(
    model: mlflow.pyfunc.PyFuncModel, exported: Exported, frames: np.ndarray
) -> None:
    acting = ActingProgram(exported.agent.policy)
    inputs = example_inputs(acting, {"pixels": (3, 16, 16)}, 1)
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


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 8, 16, 3), np.uint8), np.zeros((1, 16, 16, 3), np.float32),
              np.zeros((0, 16, 16, 3), np.uint8)],
)  # fmt: skip
def test_other_frames_are_refused_with_a_reason(
    model: mlflow.pyfunc.PyFuncModel, wrong: np.ndarray
) -> None:
    with pytest.raises(Exception, match=r"[Ss]hape|type|at least one frame"):
        model.predict(wrong)


def test_what_lies_in_the_model_is_what_playing_needs(exported: Exported, tmp_path: Path) -> None:
    needed = (exported.folder / "requirements.txt").read_text().split()
    assert [line.split("==")[0] for line in needed] == ["mlflow", "torch", "numpy", "pandas"]
    assert all("==" in line and "+" not in line for line in needed)
    for name in ("mlflow_player.py", "input_example.json"):
        assert (exported.folder / name).is_file()
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match="no MLflow model; choose another"):
        save_model(exported.program, exported.card, tmp_path)


def test_each_checkpoint_gets_the_weights_of_its_moment(
    exported: Exported, model: mlflow.pyfunc.PyFuncModel, tmp_path: Path
) -> None:
    policy, before = exported.agent.policy, torch.get_rng_state()
    first, own = model.unwrap_python_model().program.state_dict(), copy.deepcopy(policy.state_dict())
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1.0)
    later = exported.write(tmp_path, 20)
    policy.load_state_dict(own)
    assert not exported.drew_numbers, "learning goes on with its own chances"
    assert torch.equal(torch.get_rng_state(), before)
    assert mlflow.models.Model.load(str(later)).metadata["agent_steps"] == 20
    second = torch.export.load(later / "artifacts" / "policy.pt2").state_dict
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(second[name], first[name] + 1)


def test_a_full_disk_costs_one_model_and_not_the_training(
    exported: Exported, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        assert exported.write(tmp_path, 1) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "no MLflow model next to" in caplog.text
    assert exported.write(tmp_path, 2) is not None, "once there is room, models are written again"


@pytest.mark.slow
def test_a_registered_version_carries_its_evaluation(exported: Exported, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tags = {"success_rate": "0.5000", "stage": "1-1"}
    before = mlflow.get_tracking_uri()
    try:
        made = log_model(exported.program, exported.card, uri, "toy", tags=tags)
        assert made == "models:/toy/1"
        mlflow.set_tracking_uri(uri)
        client = mlflow.MlflowClient(uri)
        version = client.get_model_version("toy", "1")
        assert tags.items() <= version.tags.items()
        assert client.get_run(version.run_id).info.status == "FINISHED"
        loaded = mlflow.pyfunc.load_model(made)
        assert loaded.predict(np.zeros((1, 16, 16, 3), np.uint8))["step"].tolist() == [0]
        info = client.get_run(version.run_id).info
        again = log_model(exported.program, exported.card, uri, "toy", info.run_id)
        assert again == "models:/toy/1", "the same weights are one version"
        assert client.get_run(info.run_id).info.end_time == info.end_time  # the run is untouched
    finally:
        mlflow.set_tracking_uri(before)
