"""The tracker that logs a run to MLflow's database or server, without waiting for either."""

from __future__ import annotations

import atexit
import sys
import time
from pathlib import Path

from mario_dreamer.tracking.mlflow.run import MLflowRun
from mario_dreamer.tracking.mlflow.store import import_mlflow, store_uri, watch_hint
from mario_dreamer.tracking.mlflow.summary import dataset, description, key_tags
from mario_dreamer.tracking.outbox import Outbox
from mario_dreamer.tracking.provenance import provenance
from mario_dreamer.tracking.system import system_metrics as measure
from mario_dreamer.tracking.tracker import Tracker


class MLflowTracker(Tracker):
    """Log a run to MLflow from a thread of its own; outlive a database or server that is away.

    Args:
        folder: the run's folder; holds the spool file and the run id.
        run_id: run to go on with: its curves continue, a parameter that changed becomes the tag
            `param_changed.<key>`. None: the id that an earlier start left in the folder, if any.
        tracking_uri: any that MLflow takes; None for $MLFLOW_TRACKING_URI, and without that for
            `sqlite:///<current folder>/mlflow.db` with the artifacts in `mlruns` next to it.
        system_metrics and the rest: see configs/tracker/mlflow.yaml.

    Raises:
        ValueError: for a tracking_uri that is no database and no server, such as a folder.
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
        self.tracking_uri = store_uri(tracking_uri)
        import_mlflow()
        self._run = MLflowRun(self.tracking_uri, experiment, self.run_name, run_id, self.folder)
        self._close_seconds = close_seconds
        self._system_seconds = system_seconds if system_metrics else float("inf")
        self._measured = float("-inf")
        if system_metrics:
            measure()  # the first processor use is always 0
        self._flat: dict[str, str] = {}
        self._last: dict[str, float] = {}
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

    @property
    def watch_hint(self) -> str | None:
        """The command and the page that show the runs; None before the run has begun."""
        experiment = self._run.experiment_id
        return None if experiment is None else watch_hint(self.tracking_uri, experiment)

    def _params(self, flat: dict[str, str]) -> None:
        self._flat = flat
        self._outbox.put({"kind": "params", "params": flat})
        self._outbox.put({"kind": "tags", "tags": key_tags(flat) | self._note("RUNNING")})
        if (data := dataset(flat)) is not None:
            self._outbox.put({"kind": "dataset", **data})

    def _note(self, status: str) -> dict[str, str]:
        """The run's description, as the tag that MLflow's page shows on top."""
        return {"mlflow.note.content": description(self._flat, self._last, status)}

    def _scalars(self, values: dict[str, float], step: int, now: float) -> None:
        self._last |= values
        self._outbox.put({"kind": "metrics", "values": values, "step": step, "time": now})
        if time.monotonic() - self._measured > self._system_seconds:
            self._measured = time.monotonic()
            seen = measure(self.folder if self.folder.exists() else Path.cwd())
            self._outbox.put({"kind": "metrics", "values": seen, "step": step, "time": now})
        self._outbox.keep()  # other processes may save a checkpoint after a kill of this one

    def _tags(self, tags: dict[str, str]) -> None:
        self._outbox.put({"kind": "tags", "tags": tags})

    def _file(self, path: Path, folder: str, name: str | None, step: int | None) -> None:
        if not path.exists():
            raise FileNotFoundError(f"no such file: {path}")
        entry = {"kind": "file", "path": str(path.resolve()), "folder": folder}
        if name is not None and path.suffix == ".png":
            entry = {"kind": "image", "path": str(path.resolve()), "name": name, "step": step}
        self._outbox.put(entry)

    def _model(self, path: Path, step: int) -> None:
        self._outbox.put({"kind": "model", "path": str(path.resolve()), "step": step})

    def _truncate(self, step: int, since: float) -> None:
        self._run.truncate_after(step, since)

    def _flush(self) -> None:
        self._outbox.keep()

    def _close(self, status: str) -> None:
        atexit.unregister(self._at_exit)
        if self._flat:
            self._outbox.put({"kind": "tags", "tags": self._note(status)})
        self._outbox.put({"kind": "status", "status": status, "time": time.time()})
        self._outbox.close(self._close_seconds)

    def _at_exit(self) -> None:
        """The program ends and nobody closed: log that rather than leave the run RUNNING."""
        self.close("FAILED" if getattr(sys, "last_exc", None) else "KILLED")
