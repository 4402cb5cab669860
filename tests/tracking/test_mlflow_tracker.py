"""Real MLflow on a database of its own: what was logged is there, whatever happened meanwhile."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
import torch

from mario_dreamer.tracking.mlflow.tracker import MLflowTracker


def _curve(client: mlflow.MlflowClient, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run_id, name)]


def test_a_resumed_run_goes_on_and_tags_changed_parameters(uri: str, tmp_path: Path) -> None:
    client = mlflow.MlflowClient(uri)
    first = MLflowTracker(tmp_path, "mario", tracking_uri=uri, start_seconds=60)
    assert first.run_id is not None
    assert client.get_run(first.run_id).info.status == "RUNNING"
    first.log_hparams({"size": {"deter": 512}, "seed": 0, "long": "x" * 7000})
    first.log_metrics({"kl": torch.tensor(2.0)}, step=10)
    first.log_image("dream/strip", torch.zeros(3, 8, 8, dtype=torch.uint8), 10)
    first.log_video("eval/episode", torch.zeros(2, 3, 8, 8, dtype=torch.uint8), 10)
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    first.log_artifact(tmp_path / "config.yaml", "config")
    first.close("KILLED")
    assert client.get_run(first.run_id).info.status == "KILLED"

    second = MLflowTracker(tmp_path, tracking_uri=uri, run_id=first.run_id, start_seconds=60)
    assert client.get_run(first.run_id).info.status == "RUNNING"
    second.log_hparams({"size": {"deter": 512}, "seed": 1})
    second.log_metrics({"kl": 1.0}, step=20)
    second.close("FINISHED")

    assert second.run_id == first.run_id
    run = client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "mario"
    assert _curve(client, first.run_id, "kl") == [(10, 2.0), (20, 1.0)]
    assert run.data.metrics["system/process_memory_megabytes"] > 10
    params, tags = run.data.params, run.data.tags
    assert (params["size.deter"], params["seed"]) == ("512", "0")
    assert len(params["long"]) == 6000
    assert params["long"].endswith("x...")
    assert tags["param_changed.seed"] == "1"
    assert "param_changed.size.deter" not in tags
    assert tags["version.torch"] == torch.__version__.split("+")[0]
    assert {"version.python", "version.mlflow", "machine.cpu", "command"} <= set(tags)
    found = {item.path for item in client.list_artifacts(first.run_id, "videos/eval/episode")}
    assert found == {"videos/eval/episode/step_000000010.mp4"}
    assert [item.path for item in client.list_artifacts(first.run_id, "config")] == [
        "config/config.yaml"
    ]
    assert any("dream_strip" in item.path for item in client.list_artifacts(first.run_id, "images"))


def test_nan_is_logged_and_a_bad_name_is_made_to_fit(uri: str, tmp_path: Path) -> None:
    tracker = MLflowTracker(tmp_path, tracking_uri=uri, system_metrics=False, start_seconds=60)
    tracker.log_metrics({"kl": float("nan"), "a?b": 1.0}, step=1)
    tracker.close("FAILED")
    run = mlflow.MlflowClient(uri).get_run(tracker.run_id)
    assert run.info.status == "FAILED"
    assert run.data.metrics["a_b"] == 1.0
    assert run.data.metrics["kl"] != run.data.metrics["kl"]
    assert not any(name.startswith("system/") for name in run.data.metrics)


def test_a_server_that_is_away_gets_everything_later(
    uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]  # nobody listens there once this block is left
    away = MLflowTracker(tmp_path, tracking_uri=f"http://127.0.0.1:{port}", flush_seconds=0.1)
    assert away.run_id is None
    away.log_hparams({"seed": 0})
    began = time.monotonic()
    for step in range(1, 51):
        away.log_metrics({"kl": float(step)}, step)
    assert time.monotonic() - began < 2, "logging waits for nobody"
    away.close("FAILED")
    assert (tmp_path / "mlflow_spool.jsonl").is_file()
    assert sum("training goes on" in record.message for record in caplog.records) == 1

    back = MLflowTracker(tmp_path, tracking_uri=uri, start_seconds=60)
    back.log_metrics({"kl": 51.0}, 51)
    back.close("FINISHED")
    client = mlflow.MlflowClient(uri)
    assert _curve(client, back.run_id, "kl") == [(step, float(step)) for step in range(1, 52)]
    run = client.get_run(back.run_id)
    assert (run.info.status, run.data.params["seed"]) == ("FINISHED", "0")
    assert not (tmp_path / "mlflow_spool.jsonl").exists()


def test_an_unclosed_run_is_not_left_running(uri: str, tmp_path: Path) -> None:
    code = (
        "from mario_dreamer.tracking.mlflow.tracker import MLflowTracker\n"
        f"t = MLflowTracker({str(tmp_path)!r}, tracking_uri={uri!r}, start_seconds=60)\n"
        "t.log_metrics({'kl': 1.0}, 1)\n"
        "raise RuntimeError('the learner fell over')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.stderr.splitlines()[0].startswith("Traceback"), done.stderr
    assert done.stderr.splitlines()[-1] == "RuntimeError: the learner fell over", done.stderr
    run = mlflow.MlflowClient(uri).get_run((tmp_path / "mlflow_run_id.txt").read_text().strip())
    assert run.info.status == "FAILED"
    assert run.data.metrics["kl"] == 1.0


def test_a_locked_database_is_waited_for(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = MLflowTracker(tmp_path, tracking_uri=uri, flush_seconds=0.05, start_seconds=60)
    with sqlite3.connect(uri.removeprefix("sqlite:///"), isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        for step in range(1, 6):
            tracker.log_metrics({"kl": float(step)}, step)
        time.sleep(0.5)
        other.execute("ROLLBACK")
    tracker.close()
    curve = _curve(mlflow.MlflowClient(uri), tracker.run_id, "kl")
    assert curve == [(step, float(step)) for step in range(1, 6)]
    assert "Traceback" not in caplog.text


def test_a_database_that_cannot_be_made_keeps_every_entry(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    tracker = MLflowTracker(tmp_path, tracking_uri=f"sqlite:///{tmp_path / 'taken' / 'mlflow.db'}")
    tracker.log_metrics({"kl": 1.0}, 1)
    tracker.close("FAILED")
    lines = (tmp_path / "mlflow_spool.jsonl").read_text().split()
    kinds = [kind for kind in ("tags", "metrics", "status") if f'"{kind}"' in "".join(lines)]
    assert kinds == ["tags", "metrics", "status"]
    assert "training goes on" in caplog.text


def test_a_file_that_is_gone_blocks_nothing(uri: str, tmp_path: Path) -> None:
    tracker = MLflowTracker(tmp_path, tracking_uri=uri, flush_seconds=60, start_seconds=60)
    (tmp_path / "short_lived").write_text("x")
    tracker.log_artifact(tmp_path / "short_lived")
    (tmp_path / "short_lived").unlink()
    tracker.log_metrics({"kl": 1.0}, 1)
    assert '"kl": 1.0' in (tmp_path / "mlflow_spool.jsonl").read_text(), "a kill loses nothing"
    tracker.close()
    run = mlflow.MlflowClient(uri).get_run(tracker.run_id)
    assert (run.info.status, run.data.metrics["kl"]) == ("FINISHED", 1.0)


def _resume(uri: str, folder: Path, step: int, since: float | None = None) -> MLflowTracker:
    tracker = MLflowTracker(
        folder, tracking_uri=uri, system_metrics=False, flush_seconds=60, start_seconds=60
    )
    tracker.truncate_after(step, since)
    return tracker


def test_what_a_killed_run_logs_again_is_there_once(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = mlflow.MlflowClient(uri)
    first = _resume(uri, tmp_path, 0)
    picture = torch.zeros(3, 8, 8, dtype=torch.uint8)
    for step in (10, 20, 30):
        first.log_metrics({"kl": step / 7, "speed/fps": step * 1.0}, step)
    first.log_metrics({"play/return": 1.0}, 30)  # two episodes end together
    first.log_metrics({"play/return": 2.0}, 30)
    first.log_image("dream/strip", picture, 30)
    first.close("KILLED")  # delivered all, then died before the checkpoint of step 30

    second = _resume(uri, tmp_path, 10)
    second.log_metrics({"kl": 20 / 7, "speed/fps": 9.0}, 20)
    second.log_metrics({"kl": 30 / 7, "speed/fps": 9.0}, 30)
    second.log_metrics({"play/return": 1.0}, 30)
    second.log_metrics({"play/return": 2.0}, 30)
    second.log_image("dream/strip", picture, 30)
    second.log_metrics({"kl": 5.0, "speed/fps": 9.0}, 40)
    second.close("FINISHED")

    assert second.run_id == first.run_id
    expected = [(10, 10 / 7), (20, 20 / 7), (30, 30 / 7), (40, 5.0)]
    assert _curve(client, first.run_id, "kl") == expected
    fps = [(10, 10.0), (20, 20.0), (30, 30.0), (40, 9.0)]
    assert _curve(client, first.run_id, "speed/fps") == fps
    assert sorted(_curve(client, first.run_id, "play/return")) == [(30, 1.0), (30, 2.0)]
    pictures = [item.path for item in client.list_artifacts(first.run_id, "images")]
    assert sum(path.endswith(".png") for path in pictures) == 1
    assert "both are kept" not in caplog.text


def test_a_repeated_evaluation_is_in_mlflow_once(uri: str, tmp_path: Path) -> None:
    first = _resume(uri, tmp_path, 0)
    first.log_metrics({"eval_return": 5.0}, 20)
    first.close("KILLED")
    second = _resume(uri, tmp_path, 10)  # the checkpoint of step 20 was damaged
    time.sleep(0.01)
    began = time.time()
    second.log_metrics({"eval_return": 5.0}, 20)
    second.close("KILLED")
    third = _resume(uri, tmp_path, 20, began)  # from the second one's, which was being evaluated
    third.log_metrics({"eval_return": 5.0}, 20)
    third.log_metrics({"eval_return": 6.0}, 30)
    third.close("FINISHED")
    client, run = mlflow.MlflowClient(uri), third.run_id
    assert _curve(client, run, "eval_return") == [(20, 5.0), (30, 6.0)]
    assert _curve(client, run, "run/agent_steps") == [(20, 20.0), (30, 30.0)]


def test_what_was_spooled_and_logged_again_is_there_once(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = mlflow.MlflowClient(uri)
    first = _resume(uri, tmp_path, 0)
    first.log_metrics({"kl": 1.0}, 10)
    first.log_metrics({"kl": 2.0}, 20)
    assert first._outbox.close(60), "delivered; killed before the checkpoint of step 20"
    killed = _resume(uri, tmp_path, 10)
    killed.log_metrics({"kl": 2.0}, 20)
    killed.log_metrics({"kl": 3.0}, 30)
    killed.flush()  # the checkpoint of step 30 is written; killed before anything is delivered
    killed._outbox._queue.clear()
    third = _resume(uri, tmp_path, 20)  # that checkpoint turned out to be damaged
    third.log_metrics({"kl": 3.0}, 30)
    third.log_metrics({"kl": 4.0}, 40)
    third.close("FINISHED")
    expected = [(10, 1.0), (20, 2.0), (30, 3.0), (40, 4.0)]
    assert _curve(client, first.run_id, "kl") == expected
    killed.close("FINISHED")
    first.close("KILLED")  # its outbox is closed already
    assert "MLflow: 1 entry could not be delivered; kept in" in caplog.text


def test_a_spooled_evaluation_that_is_repeated_is_there_once(uri: str, tmp_path: Path) -> None:
    first = _resume(uri, tmp_path, 0)
    first.log_metrics({"kl": 1.0}, 20)
    first.close("KILLED")
    killed = _resume(uri, tmp_path, 10)
    began = time.time() - 0.01
    killed.log_metrics({"eval_return": 5.0}, 20)
    killed.flush()  # saved again after the evaluation; killed before anything is delivered
    killed._outbox._queue.clear()
    second = _resume(uri, tmp_path, 20, began)  # delivers the evaluation before it knows `began`
    second.log_metrics({"eval_return": 5.0}, 20)
    second.close("FINISHED")
    assert _curve(mlflow.MlflowClient(uri), second.run_id, "eval_return") == [(20, 5.0)]
    killed.close("KILLED")


def test_numbers_that_differ_after_a_resume_are_both_kept(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = _resume(uri, tmp_path, 0)
    first.log_metrics({"kl": 1.0}, 20)
    first.close("KILLED")
    second = _resume(uri, tmp_path, 10)
    second.log_metrics({"kl": 1.5}, 20)
    second.close("FINISHED")
    curve = _curve(mlflow.MlflowClient(uri), second.run_id, "kl")
    assert curve == [(20, 1.0), (20, 1.5)]
    assert "kl is 1.5 at step 20, before it was 1; both are kept" in caplog.text


def test_a_kill_before_the_id_is_written_makes_no_second_run(uri: str, tmp_path: Path) -> None:
    first = _resume(uri, tmp_path, 0)
    token = mlflow.MlflowClient(uri).get_run(first.run_id).data.tags["mario_dreamer.start"]
    first.close("KILLED")
    (tmp_path / "mlflow_run_id.txt").unlink()
    (tmp_path / "mlflow_run_wanted.txt").write_text(token)
    second = _resume(uri, tmp_path, 0)
    second.close()
    assert second.run_id == first.run_id
    assert not (tmp_path / "mlflow_run_wanted.txt").exists()


def test_a_clock_that_jumps_back_loses_nothing(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = _resume(uri, tmp_path, 0)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 7200)
    tracker.log_metrics({"kl": 1.0}, 10)
    tracker.close("FINISHED")
    run = mlflow.MlflowClient(uri).get_run(tracker.run_id)
    assert (run.info.status, run.data.metrics["kl"]) == ("FINISHED", 1.0)
