"""Each word of `tracker=...` builds a tracker that works."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mario_dreamer.tracking.tracker import Tracker

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "tracker"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_config_builds_a_tracker_with_what_the_run_knows(
    path: Path, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    config = OmegaConf.load(path)
    if path.stem == "tensorboard":
        pytest.importorskip("tensorboard")
    if path.stem == "mlflow":
        shutil.copy(uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")  # takes less than a new one
    tracker = instantiate(config, folder=tmp_path / "run", run_name="a run", run_id=None)
    assert isinstance(tracker, Tracker)
    assert tracker.run_name == "a run"
    tracker.log_metrics({"kl": 1.0}, 1)
    tracker.close()
    if path.stem == "mlflow":
        client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
        logged = client.get_run(tracker.run_id).data.metrics["kl"]
        assert logged == 1.0, "the default database lies in the current folder"


def test_the_trackers_are_there() -> None:
    words = {"mlflow", "csv", "tensorboard", "torchrl", "none"}
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == words
