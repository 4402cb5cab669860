"""Models of a run are logged models with metrics; the evaluated one is registered."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import mlflow
import pytest

from mario_dreamer.commands._sweep import announce_sweep
from mario_dreamer.tracking.mlflow.results import log_results
from mario_dreamer.tracking.mlflow.summary import dataset, description, key_tags
from mario_dreamer.tracking.mlflow.sweep import SWEEP
from mario_dreamer.tracking.mlflow.tracker import MLflowTracker

PARAMS = {
    "experiment_name": "laptop", "seed": "3", "steps": "100", "batch_size": "16",
    "loss.actor.entropy_scale": "0.002",
    "env._target_": "mario_dreamer.envs.mario.make.make_mario_env", "env.stage": "1-2",
}  # fmt: skip
SCRIPT = """import mlflow
class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input
mlflow.models.set_model(Echo())
"""


def _curve(client: mlflow.MlflowClient, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run_id, name)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "echo.py").write_text(SCRIPT)
    folder = tmp_path / "model"
    mlflow.pyfunc.save_model(
        str(folder), python_model=str(tmp_path / "echo.py"), pip_requirements=["mlflow"]
    )
    return folder


def test_models_have_metrics_and_the_evaluated_is_registered(
    uri: str,
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = mlflow.MlflowClient(uri)
    options = {"tracking_uri": uri, "system_metrics": False, "start_seconds": 60}
    tracker = MLflowTracker(tmp_path / "run", flush_seconds=60, **options)
    returns = {10: 9.0, 20: 1.0, 30: 2.0, 40: 3.0}
    for step, value in returns.items():
        tracker.log_metrics({"eval/sampled/return": value}, step)
        tracker.log_model(shutil.copytree(model, tmp_path / f"at{step}"), step)
    tracker.close("KILLED")
    tracker = MLflowTracker(tmp_path / "run", flush_seconds=60, **options)
    tracker.truncate_after(30)  # the run goes on from step 30 and logs step 40 again
    tracker.log_metrics({"eval/sampled/return": returns[40]}, 40)
    tracker.log_model(tmp_path / "at40", 40)
    tracker.log_model(tmp_path / "at50", 50)  # its checkpoint is being saved once more
    tracker.close()
    assert "at50 is gone" not in caplog.text

    run = client.get_run(tracker.run_id)
    found = client.search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{tracker.run_id}'"
    )
    metrics = {
        int(logged.tags["agent_steps"]): [(m.key, m.value, m.step) for m in logged.metrics]
        for logged in found
    }
    kept = (10, 30, 40)  # the best one and the newest two
    assert metrics == {step: [("eval/sampled/return", returns[step], step)] for step in kept}
    assert _curve(client, tracker.run_id, "eval/sampled/return") == list(returns.items())

    given = {"files": [], "folder": "evaluation", "tags": {"flag": "0.5"}, "tracking_uri": uri}
    for _ in range(2):
        result = {"evaluate/sampled/return": 7.0}
        log_results(tracker.run_id, "x", result, 30, register="my-policy", **given)
    version = client.get_model_version_by_alias("my-policy", "evaluated")
    assert (int(version.version), version.tags["flag"]) == (1, "0.5")
    assert client.get_run(tracker.run_id).data.metrics["evaluate/sampled/return"] == 7.0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    loaded = mlflow.pyfunc.load_model("models:/my-policy@evaluated")
    assert loaded.predict("same") == "same"


def test_a_run_is_described_tagged_and_has_its_environment(uri: str, tmp_path: Path) -> None:
    tracker = MLflowTracker(tmp_path, tracking_uri=uri, system_metrics=False, start_seconds=60)
    env = {"_target_": PARAMS["env._target_"], "stage": "1-2"}
    tracker.log_hparams({"experiment_name": "laptop", "seed": 3, "steps": 100, "env": env})
    tracker.log_metrics({"play/return_mean": 12.5}, 100)
    tracker.close()
    run = mlflow.MlflowClient(uri).get_run(tracker.run_id)
    tags = run.data.tags
    assert (tags["recipe"], tags["stage"], tags["seed"]) == ("laptop", "1-2", "3")
    assert "ended FINISHED after 100 agent steps: return 12.5" in tags["mlflow.note.content"]
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.name == "Super Mario Bros 1-2"


def test_the_description_is_two_sentences() -> None:
    running = description(PARAMS, {})
    assert running == (
        "DreamerV3 learns to play Super Mario Bros 1-2 by the recipe laptop, seed 3, in 100 agent "
        "steps. It is running."
    )
    last = {"run/agent_steps": 100.0, "play/return_mean": 50.0, "play/flag_rate": 0.25}
    ended = description(PARAMS, last, "KILLED")
    assert ended.endswith("It ended KILLED after 100 agent steps: return 50, flag rate 0.25.")


def test_key_parameters_are_tags_and_the_env_is_a_dataset() -> None:
    tags = key_tags(PARAMS)
    assert (tags["env"], tags["batch_size"], tags["entropy_scale"]) == ("mario", "16", "0.002")
    first, other = dataset(PARAMS), dataset({**PARAMS, "env.stage": "1-1"})
    assert first["digest"] == dataset(dict(PARAMS))["digest"] != other["digest"]
    assert dataset({"seed": "0"}) is None


def test_runs_of_a_sweep_have_one_parent(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWEEP, "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    announce_sweep(["-m", "experiment=laptop", "seed=0,1", "env.stage=[1-1,1-2]"])
    assert os.environ[SWEEP].split(" ")[1:] == ["seed=0,1"]
    client, parents = mlflow.MlflowClient(uri), set()
    options = {"tracking_uri": uri, "system_metrics": False, "start_seconds": 60}
    for name in ("seed=0", "seed=1"):
        tracker = MLflowTracker(tmp_path / name, run_name=name, **options)
        tracker.close()
        run = client.get_run(tracker.run_id)
        assert run.info.run_name == name
        parents.add(run.data.tags["mlflow.parentRunId"])
    (parent,) = parents
    assert not list((tmp_path / "tmp").iterdir()), "no lock stays behind"
    assert client.get_run(parent).info.run_name.startswith("sweep seed=0,1")
    announce_sweep(["experiment=laptop"])
    assert SWEEP not in os.environ
