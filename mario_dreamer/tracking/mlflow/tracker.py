"""MLflowTracker: the run in MLflow's database or server, without waiting for either."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from pathlib import Path
from types import ModuleType

from mario_dreamer.tracking.mlflow.run import MLflowRun
from mario_dreamer.tracking.outbox import Outbox
from mario_dreamer.tracking.provenance import provenance
from mario_dreamer.tracking.system import system_metrics as measure
from mario_dreamer.tracking.tracker import Tracker

__all__ = ["MLflowTracker", "import_mlflow"]


def import_mlflow() -> ModuleType:
    """Import MLflow and keep it quiet: no migration log, no git hints, no telemetry.

    Raises:
        ModuleNotFoundError: when it is not installed, with the way out.
    """
    for name, value in (
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("GIT_PYTHON_REFRESH", "quiet"),
        # The outbox tries again by itself; a dead server must not hold its thread for minutes.
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "20"),
    ):
        os.environ.setdefault(name, value)
    try:
        import mlflow
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "tracker=mlflow needs MLflow: pip install mlflow, or choose tracker=csv."
        ) from error
    for name in ("alembic", "mlflow", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # A locked database would print a traceback at each attempt; the outbox says it in a line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return mlflow


def _refuse_folder(uri: str) -> None:
    """Say what to give instead of a folder, which MLflow 3 refuses unless told otherwise."""
    is_folder = uri.startswith(("file:", "/", "./", "../"))
    if is_folder and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
        raise ValueError(
            f"tracker.tracking_uri: got {uri!r}, a folder, which MLflow 3 no longer takes. "
            "Give a database, sqlite:////absolute/path/mlflow.db, or a server, http://host:5000."
        )


class MLflowTracker(Tracker):
    """Log a run to MLflow from a thread of its own; outlive a database or server that is away.

    Args:
        folder: the run's folder; holds the spool file and the run id.
        run_name: the run's name on MLflow's page.
        run_id: run to go on with: its curves continue, a parameter that changed becomes the tag
            `param_changed.<key>`. None: the id that an earlier start left in the folder, if any.
        experiment: name of the experiment.
        tracking_uri: any that MLflow takes; None for $MLFLOW_TRACKING_URI, and without that for
            `sqlite:///<current folder>/mlflow.db` with the artifacts in `mlruns` beside it.
        system_metrics: also log how the machine is doing.
        system_seconds: seconds between two looks at the machine.
        flush_seconds: seconds between two writes.
        start_seconds: so long to wait for the run to begin before training goes on without.
        close_seconds: so long to wait at the end for what is left to be written.

    Raises:
        ModuleNotFoundError: without MLflow, or without psutil for system_metrics.
        ValueError: for a tracking_uri that is a folder: MLflow 3 has given that up.
    """

    def __init__(
        self,
        folder: str | Path = ".",
        run_name: str | None = None,
        run_id: str | None = None,
        experiment: str = "mario-dreamer",
        tracking_uri: str | None = None,
        system_metrics: bool = True,
        system_seconds: float = 10.0,
        flush_seconds: float = 5.0,
        start_seconds: float = 20.0,
        close_seconds: float = 60.0,
    ) -> None:
        super().__init__(folder, run_name, run_id)
        import_mlflow()
        id_file = self.folder / "mlflow_run_id.txt"
        if run_id is None and id_file.is_file():
            run_id = id_file.read_text().strip() or None
        env = os.environ.get("MLFLOW_TRACKING_URI")
        self.tracking_uri = tracking_uri or env or f"sqlite:///{Path.cwd() / 'mlflow.db'}"
        _refuse_folder(self.tracking_uri)
        self._run = MLflowRun(self.tracking_uri, experiment, self.run_name, run_id, id_file)
        self._close_seconds = close_seconds
        self._system_seconds = system_seconds if system_metrics else float("inf")
        self._looked = float("-inf")
        if system_metrics:
            measure()  # says at once if psutil is missing; the first processor use is always 0
        self._outbox = Outbox(
            self._run.deliver, self.folder / "mlflow_spool.jsonl", "MLflow", every=flush_seconds
        )
        self._outbox.put({"kind": "tags", "tags": provenance()}, now=True)
        self._outbox.tried.wait(start_seconds)
        atexit.register(self._at_exit)

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None until the database or server has given one."""
        return self._run.run_id

    def _params(self, flat: dict[str, str]) -> None:
        self._outbox.put({"kind": "params", "params": flat})

    def _scalars(self, values: dict[str, float], step: int, now: float) -> None:
        self._outbox.put({"kind": "metrics", "values": values, "step": step, "time": now})
        if time.monotonic() - self._looked > self._system_seconds:
            self._looked = time.monotonic()
            seen = measure(self.folder if self.folder.exists() else Path.cwd())
            self._outbox.put({"kind": "metrics", "values": seen, "step": step, "time": now})

    def _tags(self, tags: dict[str, str]) -> None:
        self._outbox.put({"kind": "tags", "tags": tags})

    def _file(self, path: Path, folder: str, name: str | None, step: int | None) -> None:
        if not path.exists():
            raise FileNotFoundError(f"no such file: {path}")
        entry = {"kind": "file", "path": str(path.resolve()), "folder": folder}
        if name is not None and path.suffix == ".png":
            entry = {"kind": "image", "path": str(path.resolve()), "name": name, "step": step}
        self._outbox.put(entry)

    def _truncate(self, step: int) -> None:
        self._run.truncate_after(step)

    def _flush(self) -> None:
        self._outbox.keep()

    def _close(self, status: str) -> None:
        atexit.unregister(self._at_exit)
        self._outbox.put({"kind": "status", "status": status, "time": time.time()})
        self._outbox.close(self._close_seconds)

    def _at_exit(self) -> None:
        """The program ends and nobody closed: say so rather than leave the run RUNNING."""
        self.close("FAILED" if getattr(sys, "last_exc", None) else "KILLED")
