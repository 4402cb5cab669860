"""Faults between processes: signals, two runs on one folder, a server that goes away for good."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mario_dreamer.training.checkpoint import Checkpoints

TINY = [
    "experiment=debug", "env.image_size=16", "batch_size=4", "batch_length=8", "imag_horizon=3",
    "train_ratio=8", "steps=1_000_000", "log_every=32", "save_every=0", "eval_every=0",
    "collector.num_envs=4", "tracker=csv", "threads=1", "device=cpu", "precision=fp32",
]  # fmt: skip


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "mario_dreamer", "train", *TINY, *words, f"runs_dir={folder}"]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """A training in mid-run, in tmp_path/one."""
    process = subprocess.Popen(
        command(tmp_path, "name=one"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    metrics = tmp_path / "one" / "metrics.jsonl"
    give_up = time.monotonic() + 240
    while not (metrics.exists() and "run/updates" in metrics.read_text()):
        assert process.poll() is None and time.monotonic() < give_up, process.communicate()[1]
        time.sleep(0.1)
    yield process
    process.kill()
    process.wait()


@pytest.mark.slow
def test_sigterm_saves_and_says_so(running: subprocess.Popen, tmp_path: Path) -> None:
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 143 and "KILLED" in out, err[-2000:]
    assert "SIGTERM" in err and "Traceback" not in err
    assert Checkpoints(tmp_path / "one" / "checkpoints").latest() is not None
    assert json.loads((tmp_path / "one" / "run.json").read_text())["status"] == "KILLED"


@pytest.mark.slow
def test_sigint_twice_leaves_at_once(running: subprocess.Popen, tmp_path: Path) -> None:
    for _ in range(2):
        running.send_signal(signal.SIGINT)
        time.sleep(0.05)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 130 and "Traceback" not in err, err[-2000:]
    assert "stopped at once" in err or "KILLED" in out
    assert list((tmp_path / "one" / "checkpoints").glob(".tmp-*")) == [] or running.returncode


@pytest.mark.slow
def test_a_second_run_in_a_folder_is_refused_naming_the_pid(
    running: subprocess.Popen, tmp_path: Path
) -> None:
    second = subprocess.run(
        command(tmp_path, "name=one"), check=False, capture_output=True, text=True, timeout=240
    )
    assert second.returncode == 1 and f"process {running.pid}" in second.stderr
    assert "Traceback" not in second.stderr and running.poll() is None


@pytest.mark.slow
def test_a_run_that_cannot_fit_is_refused_from_the_command_line(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "name=big", "replay.capacity=100_000_000_000", "steps=100_000_000_000"),
        check=False, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 1 and "Lower replay.capacity" in done.stderr
    assert "Traceback" not in done.stderr


class Server:
    """A small MLflow server: what its REST interface takes, kept in memory."""

    def __init__(self, port: int = 0, kept: dict[str, Any] | None = None) -> None:
        kept = self.kept = {"metrics": [], "status": ""} if kept is None else kept
        info = {"run_id": "r1", "run_uuid": "r1", "experiment_id": "1", "status": "RUNNING",
                "artifact_uri": "file:///tmp/none", "lifecycle_stage": "active"}  # fmt: skip
        experiment = {"experiment_id": "1", "name": "mario-dreamer", "lifecycle_stage": "active",
                      "artifact_location": "file:///tmp/none"}  # fmt: skip

        class Answers(BaseHTTPRequestHandler):
            def answer(self) -> None:
                size = int(self.headers.get("content-length") or 0)
                asked = json.loads(self.rfile.read(size) or b"{}")
                path = self.path.split("?")[0]
                shown: dict[str, Any] = {}
                if path.endswith("experiments/get-by-name"):
                    shown = {"experiment": experiment}
                elif path.endswith("runs/log-batch"):
                    kept["metrics"] += asked.get("metrics", [])
                elif path.endswith("runs/update"):
                    kept["status"] = asked.get("status", "")
                    shown = {"run_info": info}
                elif path.endswith("metrics/get-history"):
                    shown = {"metrics": kept["metrics"]}
                else:
                    shown = {"run": {"info": info, "data": {}}, "runs": []}
                body = json.dumps(shown).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Answers)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Go away: from now on connections are refused."""
        self.http.shutdown()
        self.http.server_close()


@pytest.mark.slow
def test_a_tracking_server_that_comes_back_gets_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mario_dreamer.tracking.mlflow.tracker import MLflowTracker

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = Server()
    uri = f"http://127.0.0.1:{server.port}"
    tracker = MLflowTracker(tmp_path, tracking_uri=uri, flush_seconds=0.05, start_seconds=60)
    assert tracker.run_id == "r1"
    tracker.log_metrics({"kl": 1.0}, 1)
    wait_for(lambda: steps(server) == {1})
    server.stop()
    began = time.monotonic()
    for step in range(2, 30):
        tracker.log_metrics({"kl": float(step)}, step)
    assert time.monotonic() - began < 2, "learning waits for nobody"
    wait_for(lambda: "training goes on" in caplog.text)
    back = Server(server.port, server.kept)
    wait_for(lambda: steps(back) == set(range(1, 30)))
    tracker.close()
    assert back.kept["status"] == "FINISHED" and "Traceback" not in caplog.text
    back.stop()


def steps(server: Server) -> set[int]:
    return {metric["step"] for metric in server.kept["metrics"] if metric["key"] == "kl"}


def wait_for(holds: Any, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)
