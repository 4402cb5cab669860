"""MLflowTracker: the run in MLflow's database or server, without waiting for either."""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mario_dreamer.tracking.outbox import Entry, Outbox, Refused
from mario_dreamer.tracking.provenance import provenance
from mario_dreamer.tracking.system import system_metrics
from mario_dreamer.tracking.tracker import STATUSES, Tracker, log

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["MLflowTracker"]

# MLflow's limits: characters of a value of a parameter and of a tag, of a key; entries per call.
_PARAM, _TAG, _KEY, _METRICS, _PARAMS = 6000, 8000, 250, 1000, 100
# Asking again does not help with these answers of MLflow.
_FINAL = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE")


def import_mlflow() -> Any:
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
    for name in ("alembic", "mlflow", "mlflow.store.db.utils", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return mlflow


def _key(name: str) -> str:
    """Make a name that MLflow takes."""
    return re.sub(r"[^/\w.\- ]", "_", name)[:_KEY]


def _cut(text: str, limit: int) -> str:
    """Cut a text to the limit, visibly."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _chunks(items: list[Any], size: int) -> list[list[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


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
        ModuleNotFoundError: without MLflow.
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
        self._id_file = self.folder / "mlflow_run_id.txt"
        if run_id is None and self._id_file.is_file():
            self._run_id = self._id_file.read_text().strip() or None
        self.experiment = experiment
        env = os.environ.get("MLFLOW_TRACKING_URI")
        self.tracking_uri = tracking_uri or env or f"sqlite:///{Path.cwd() / 'mlflow.db'}"
        self._started = False
        self._client: MlflowClient | None = None
        self._close_seconds = close_seconds
        self._system_seconds = system_seconds if system_metrics else float("inf")
        self._looked, self._step = 0.0, 0
        self._outbox = Outbox(
            self._deliver, self.folder / "mlflow_spool.jsonl", "MLflow", every=flush_seconds
        )
        self._outbox.put({"kind": "tags", "tags": provenance()}, now=True)
        self._outbox.tried.wait(start_seconds)
        atexit.register(self._at_exit)

    def _params(self, flat: dict[str, str]) -> None:
        self._outbox.put({"kind": "params", "params": flat})

    def _scalars(self, values: dict[str, float], step: int, now: float) -> None:
        self._step = step
        if time.monotonic() - self._looked > self._system_seconds:
            self._looked = time.monotonic()
            values = values | system_metrics(self._existing_folder())
        self._outbox.put({"kind": "metrics", "values": values, "step": step, "time": now})

    def _existing_folder(self) -> Path:
        return self.folder if self.folder.exists() else Path.cwd()

    def _tags(self, tags: dict[str, str]) -> None:
        self._outbox.put({"kind": "tags", "tags": tags})

    def _file(self, path: Path, folder: str, name: str | None, step: int | None) -> None:
        if not path.exists():
            raise FileNotFoundError(f"no such file: {path}")
        entry = {"kind": "file", "path": str(path.resolve()), "folder": folder}
        if name is not None and path.suffix == ".png":
            entry = {"kind": "image", "path": str(path.resolve()), "name": name, "step": step}
        self._outbox.put(entry)

    def _close(self, status: str) -> None:
        atexit.unregister(self._at_exit)
        self._outbox.put({"kind": "status", "status": status, "time": time.time()})
        self._outbox.close(self._close_seconds)

    def _at_exit(self) -> None:
        """The program ends and nobody closed: say so rather than leave the run RUNNING."""
        self.close("FAILED" if getattr(sys, "last_exc", None) else "KILLED")

    # From here on everything runs in the outbox's thread.

    def _deliver(self, entries: list[Entry]) -> None:
        """Write entries of one kind; raise Refused where trying again is of no use."""
        from mlflow.exceptions import MlflowException

        try:
            client, run_id = self._run()
            getattr(self, f"_write_{entries[0]['kind']}")(client, run_id, entries)
        except FileNotFoundError as error:  # a file that has been deleted since
            raise Refused(str(error)) from error
        except MlflowException as error:
            if error.error_code in _FINAL:
                raise Refused(str(error)) from error
            raise

    def _run(self) -> tuple[MlflowClient, str]:
        """Begin the run, or go on with it, when that has not been done yet."""
        from mlflow import MlflowClient

        if self._client is None:
            self._client = MlflowClient(self.tracking_uri)
        if not self._started:
            if self._run_id is None or not self._continue(self._client, self._run_id):
                tags = {"mlflow.source.type": "LOCAL", "mlflow.source.name": "mario_dreamer"}
                run = self._client.create_run(
                    self._experiment(self._client), run_name=self.run_name, tags=tags
                )
                self._run_id = run.info.run_id
            self._id_file.parent.mkdir(parents=True, exist_ok=True)
            self._id_file.write_text(f"{self._run_id}\n")
            self._started = True
        return self._client, self._run_id

    def _continue(self, client: MlflowClient, run_id: str) -> bool:
        """Set an old run to RUNNING; False, with a word, when MLflow does not know it."""
        from mlflow.exceptions import MlflowException

        try:
            client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", *_FINAL):
                raise
            log.warning(
                "MLflow: run %s is unknown at %s; a new run begins", run_id, self.tracking_uri
            )
            return False
        return True

    def _experiment(self, client: MlflowClient) -> str:
        """Find or make the experiment; beside a sqlite file its artifacts lie in `mlruns`."""
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            place = None
            if self.tracking_uri.startswith("sqlite:///"):
                database = Path(self.tracking_uri.removeprefix("sqlite:///")).resolve()
                place = (database.parent / "mlruns" / _key(self.experiment)).as_uri()
            try:
                return client.create_experiment(self.experiment, artifact_location=place)
            except MlflowException:  # another run was faster
                found = client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def _write_metrics(self, client: MlflowClient, run_id: str, entries: list[Entry]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(_key(name), value, int(entry["time"] * 1000), entry["step"])
            for entry in entries
            for name, value in entry["values"].items()
        ]
        for chunk in _chunks(metrics, _METRICS):
            client.log_batch(run_id, metrics=chunk)

    def _write_params(self, client: MlflowClient, run_id: str, entries: list[Entry]) -> None:
        from mlflow.entities import Param, RunTag

        known = client.get_run(run_id).data.params
        wanted: dict[str, str] = {}
        for entry in entries:
            cut = {_key(key): _cut(value, _PARAM) for key, value in entry["params"].items()}
            wanted.update(cut)
        fresh = [Param(key, value) for key, value in wanted.items() if key not in known]
        # MLflow lets nobody change a parameter, and a resumed run may well have other ones.
        changed = [
            RunTag(_key(f"param_changed.{key}"), value)
            for key, value in wanted.items()
            if known.get(key, value) != value
        ]
        for chunk in _chunks(fresh, _PARAMS):
            client.log_batch(run_id, params=chunk)
        for chunk in _chunks(changed, _PARAMS):
            client.log_batch(run_id, tags=chunk)

    def _write_tags(self, client: MlflowClient, run_id: str, entries: list[Entry]) -> None:
        from mlflow.entities import RunTag

        tags = {key: text for entry in entries for key, text in entry["tags"].items()}
        if "git.commit" in tags:
            tags["mlflow.source.git.commit"] = tags["git.commit"]  # shown on MLflow's page
        rows = [RunTag(_key(key), _cut(text, _TAG)) for key, text in tags.items()]
        for chunk in _chunks(rows, _PARAMS):
            client.log_batch(run_id, tags=chunk)

    def _write_file(self, client: MlflowClient, run_id: str, entries: list[Entry]) -> None:
        for entry in entries:
            write = client.log_artifacts if Path(entry["path"]).is_dir() else client.log_artifact
            write(run_id, entry["path"], entry["folder"] or None)

    def _write_image(self, client: MlflowClient, run_id: str, entries: list[Entry]) -> None:
        from PIL import Image

        for entry in entries:
            with Image.open(entry["path"]) as image:
                # `#` and `/` mean something in the names of MLflow's image files.
                key = re.sub(r"[^\w.\-]", "_", entry["name"])
                client.log_image(run_id, image, key=key, step=entry["step"])

    def _write_status(self, client: MlflowClient, run_id: str, entries: list[Entry]) -> None:
        assert entries[-1]["status"] in STATUSES, entries[-1]
        client.set_terminated(
            run_id, entries[-1]["status"], end_time=int(entries[-1]["time"] * 1000)
        )
