"""Open MLflow's database or server; a database is created by one process at a time."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import sqlite3
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Words of a database that is in use or cannot be reached: try again, it is not damaged.
_PASSING = ("locked", "unable to open", "disk i/o", "disk is full", "readonly")


class StoreBroken(RuntimeError):
    """The database is damaged, half made, or of another version of MLflow."""


def import_mlflow() -> ModuleType:
    """Import MLflow, which takes seconds, and keep it quiet: no migration log, no telemetry."""
    for name, value in (
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("GIT_PYTHON_REFRESH", "quiet"),
        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
        # The outbox tries again by itself; a dead server must not hold its thread for minutes.
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "20"),
    ):
        os.environ.setdefault(name, value)
    import mlflow

    for name in ("alembic", "mlflow", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # A locked database would print a traceback at each attempt; the outbox logs one line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return mlflow


def store_uri(tracking_uri: str | None = None) -> str:
    """Return the address that is meant: the one given, $MLFLOW_TRACKING_URI, or ./mlflow.db.

    Raises:
        ValueError: it is no database and no server, such as a folder: MLflow 3 takes none.
    """
    env = os.environ.get("MLFLOW_TRACKING_URI")
    uri = tracking_uri or env or f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    is_store = re.match(r"sqlite:///.|(?!sqlite:|file:)[\w+.-]+://.|databricks$|arn:", uri)
    if not is_store and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
        raise ValueError(
            f"tracking_uri or $MLFLOW_TRACKING_URI: got {uri!r}, expected a database, "
            "sqlite:////absolute/path/mlflow.db, or a server, http://host:5000. MLflow 3 no longer takes a folder."
        )
    return uri


def open_store(uri: str) -> MlflowClient:
    """Return a client whose database exists, is whole and is of this version of MLflow.

    A new SQLite database is made in a file of its own, which then takes the name: a kill leaves
    nothing half made. Other processes wait meanwhile.

    Raises:
        StoreBroken: naming the database and the way out.
    """
    import_mlflow()
    from mlflow import MlflowClient

    if not uri.startswith("sqlite:///"):
        return MlflowClient(uri)
    database = Path(uri.removeprefix("sqlite:///")).resolve()
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock", timeout=120):
        try:
            if not database.exists():
                _create(database)
            _check(database)
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)  # brings an older one up to date
        except Exception as error:
            if isinstance(error, OSError) or any(word in str(error).lower() for word in _PASSING):
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
            raise StoreBroken(
                f"the database is damaged or of another MLflow ({reason}). Move it away: "
                f"mv {database} {database}.broken; a new one then gets what waits"
            ) from error
    return client


def _create(database: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    draft = database.with_name(f".{database.name}.draft")
    draft.unlink(missing_ok=True)
    store = SqlAlchemyStore(f"sqlite:///{draft}", (database.parent / "mlruns").as_uri())
    store.engine.dispose()
    draft.replace(database)


def _check(database: Path) -> None:
    """Raise for a file that is no database, and for a migration that was broken off."""
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection:
        search = "SELECT name FROM sqlite_master WHERE name GLOB '_alembic_tmp_*'"
        left = connection.execute(search).fetchone()
    if left is not None:
        raise ValueError(f"a migration left the table {left[0]}")


def watch_hint(uri: str, experiment_id: str) -> str:
    """Tell how to look at the runs of an experiment: a page, and the command that serves it.

    The page is that of the runs: MLflow 3 opens on one for language models otherwise.

    Returns:
        one line for a server, else two, each short enough to be copied from a terminal.
    """
    page = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    if uri.startswith("http"):
        return f"{uri.rstrip('/')}/{page}"
    here = f"sqlite:///{Path.cwd()}/"
    uri = f"sqlite:///{uri.removeprefix(here)}" if uri.startswith(here) else uri
    command = f"mlflow ui --backend-store-uri {shlex.quote(uri)} --workers 1"
    return f"http://127.0.0.1:5000/{page}\n  after {command}"
