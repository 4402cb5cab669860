"""MLflow's database is created once, shared by parallel runs, and its damage is named."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest

from mario_dreamer.tracking.mlflow.store import StoreBroken, open_store, store_uri, watch_hint
from mario_dreamer.tracking.mlflow.tracker import MLflowTracker

# Four processes that begin at once, in a folder without a database.
PARALLEL = """
import os, sys
from pathlib import Path
from mario_dreamer.tracking.mlflow.tracker import MLflowTracker
import mlflow.store.tracking.sqlalchemy_store
children = []
for number in range(4):
    child = os.fork()
    if child == 0:
        options = dict(system_metrics=False, flush_seconds=0.02, start_seconds=120)
        run = MLflowTracker(Path(f"run{number}"), close_seconds=120, **options)
        run.log_hparams({"seed": number})
        for step in range(1, 101):
            run.log_metrics({"train/kl": step / 8, "play/return": -step}, step)
        run.close()
        os._exit(run.run_id is None)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] for child in children))
"""


def test_three_first_clients_make_one_whole_database(
    first_clients: tuple[str, list[mlflow.MlflowClient]],
) -> None:
    uri, clients = first_clients
    made = clients[0].create_experiment("of the first client")
    for client in clients:
        assert client.get_experiment(made).name == "of the first client"
    folder = Path(uri.removeprefix("sqlite:///")).parent
    assert not (folder / ".mlflow.db.draft").exists()


@pytest.mark.slow
def test_four_runs_started_at_once_lose_no_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # mlflow.set_tracking_uri leaves it
    done = subprocess.run(
        [sys.executable, "-c", PARALLEL], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "already exists" not in done.stderr
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    expected = [(step, step / 8) for step in range(1, 101)]
    for number in range(4):
        folder = tmp_path / f"run{number}"
        run = client.get_run((folder / "mlflow_run_id.txt").read_text().strip())
        assert (run.info.status, run.data.params["seed"]) == ("FINISHED", str(number))
        found = client.get_metric_history(run.info.run_id, "train/kl")
        assert [(point.step, point.value) for point in found] == expected
        assert run.data.metrics["play/return"] == -100
        assert not (folder / "mlflow_spool.jsonl").exists()
    assert not (tmp_path / ".mlflow.db.draft").exists()


def test_a_damaged_database_is_named_once_with_the_cure(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = tmp_path / "mlflow.db"
    database.write_text("no database at all")
    address = f"sqlite:///{database}"
    tracker = MLflowTracker(tmp_path / "run", tracking_uri=address, flush_seconds=0.05)
    assert tracker.run_id is None and tracker.watch_hint is None
    tracker.log_metrics({"train/kl": 1.0}, 1)
    warned = [record.message for record in caplog.records]
    assert len(warned) == 1 and f"mv {database} {database}.broken" in warned[0]
    open_store(uri)
    database.rename(tmp_path / "mlflow.db.broken")  # as the message says
    shutil.copy(uri.removeprefix("sqlite:///"), database)  # made in less time than a new one
    until = time.monotonic() + 60
    while tracker.run_id is None and time.monotonic() < until:
        time.sleep(0.1)
    tracker.close()
    run = mlflow.MlflowClient(address).get_run(tracker.run_id)
    assert (run.info.status, run.data.metrics["train/kl"]) == ("FINISHED", 1.0)


def test_a_migration_that_was_broken_off_is_named(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE _alembic_tmp_metrics (key TEXT)")
    with pytest.raises(StoreBroken, match="_alembic_tmp_metrics.*mv .*mlflow.db.broken"):
        open_store(f"sqlite:///{database}")


@pytest.mark.parametrize(
    "uri",
    ["file:///mlruns", "./mlruns", "mlruns", "5", "sqlite://mlflow.db", "sqlite:///", "http:/host"],
)
def test_no_database_and_no_server_is_refused_with_the_cure(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(ValueError, match=f"got '{re.escape(uri)}', expected .* sqlite:////absolute"):
        store_uri(uri)


@pytest.mark.parametrize(
    "uri",
    ["sqlite:///a.db", "https://host", "postgresql+psycopg://a@b/db", "my-store://a", "databricks", "arn:a:b"],
)
def test_what_mlflow_and_its_plugins_open_is_taken(uri: str) -> None:
    assert store_uri(uri) == uri


def test_the_page_is_that_of_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "#/experiments/3/runs?workflowType=machine_learning"
    assert watch_hint("http://host:5000/", "3") == f"http://host:5000/{page}"
    local = watch_hint("sqlite:////data/mlflow.db", "3")
    command = "  after mlflow ui --backend-store-uri sqlite:////data/mlflow.db --workers 1"
    assert local.splitlines() == [f"http://127.0.0.1:5000/{page}", command]
    monkeypatch.chdir(tmp_path)
    here = watch_hint(f"sqlite:///{tmp_path}/mlflow.db", "3")
    assert here.endswith("mlflow ui --backend-store-uri sqlite:///mlflow.db --workers 1")
