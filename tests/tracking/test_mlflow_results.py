from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mlflow")

from mario_dreamer.tracking.mlflow.results import log_results, recorded_run, uses_mlflow
from mario_dreamer.tracking.mlflow.tracker import MLflowTracker


def test_results_are_logged_to_the_run_without_ending_it(uri: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    run_folder = tmp_path / "runs" / "mine"
    tracker = MLflowTracker(run_folder, tracking_uri=uri, system_metrics=False, flush_seconds=0.1)
    tracker.log_metrics({"kl": 1.0}, 5)
    run_id = tracker.run_id
    client = MlflowClient(uri)
    picture = tmp_path / "evaluation.html"
    picture.write_text("<p>")
    given = {"step": 7, "files": [picture], "folder": "evaluation", "tags": {"a": "b"}}
    found = log_results(run_id, "x", {"evaluate/sampled/return": 2.0, "won?": 1.0}, tracking_uri=uri, **given)
    assert found == run_id == recorded_run(run_folder)
    run = client.get_run(run_id)
    assert run.info.status == "RUNNING", "the training goes on"
    assert run.data.metrics["evaluate/sampled/return"] == 2.0 and run.data.tags["a"] == "b"
    assert run.data.metrics["won_"] == 1.0, "as the training writes it"
    assert [file.path for file in client.list_artifacts(run_id, "evaluation")] == [
        "evaluation/evaluation.html"
    ]
    tracker.close()

    own = log_results("0" * 32, "stray", {}, tracking_uri=uri, **given)
    assert own not in (None, run_id), "an unknown run: the results get one of their own"
    assert client.get_run(own).info.status == "FINISHED"
    assert client.get_run(own).info.run_name == "stray"


def test_a_server_that_is_away_costs_no_result(caplog: pytest.LogCaptureFixture) -> None:
    found = log_results(None, "x", {}, 0, [], "evaluation", {}, "http://127.0.0.1:9")
    assert found is None
    assert "not logged" in caplog.text


def test_auto_follows_the_run(tmp_path: Path) -> None:
    assert not uses_mlflow("auto", tmp_path) and not uses_mlflow("auto", None)
    (tmp_path / "mlflow_run_id.txt").write_text("abc\n")
    assert uses_mlflow("auto", tmp_path) and recorded_run(tmp_path) == "abc"
    assert uses_mlflow(True, None) and not uses_mlflow(False, tmp_path)


def test_a_run_of_results_that_fails_midway_is_not_left_running(uri: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    missing = [tmp_path / "missing.html"]
    assert log_results(None, "broken off", {}, 0, missing, "evaluation", {}, uri) is None
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("mario-dreamer").experiment_id
    (run,) = client.search_runs([experiment], "attributes.run_name = 'broken off'")
    assert run.info.status == "FINISHED"
