"""MLflowRun: one run in MLflow's database or server; everything here may wait, and may fail."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mario_dreamer.tracking.mlflow.past import Past
from mario_dreamer.tracking.outbox import Entry, Refused
from mario_dreamer.tracking.tracker import STATUSES, log

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["MLflowRun"]

# MLflow's limits: characters of a value of a parameter and of a tag, of a key; entries per call.
_PARAM, _TAG, _KEY, _METRICS, _PARAMS = 6000, 8000, 250, 1000, 100
# Asking again does not help with these answers of MLflow.
_FINAL = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE")


def _key(name: str) -> str:
    """Make a name that MLflow takes."""
    return re.sub(r"[^/\w.\- ]", "_", name)[:_KEY]


def _cut(text: str, limit: int) -> str:
    """Cut a text to the limit, visibly."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _write(path: Path, text: str) -> None:
    """Write a line in one go: a kill leaves the whole of it or nothing."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(f"{text}\n")
    draft.replace(path)


def _chunks(items: list[Any], size: int) -> list[list[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


class MLflowRun:
    """Begin a run, or go on with an old one, and write entries into it. Called by one thread.

    Args:
        tracking_uri: any that MLflow takes.
        experiment: name of the experiment; made when it is not there.
        run_name: name of a new run.
        run_id: run to go on with; None for a new one.
        id_file: the run's id is written there.
    """

    def __init__(
        self,
        tracking_uri: str,
        experiment: str,
        run_name: str,
        run_id: str | None,
        id_file: Path,
    ) -> None:
        self.tracking_uri, self.experiment, self.run_name = tracking_uri, experiment, run_name
        self.run_id, self._id_file = run_id, id_file
        self._client: MlflowClient | None = None
        self._started = False
        self._step: int | None = None
        self._continued = False
        self._past: Past | None = None

    def truncate_after(self, step: int) -> None:
        """Leave out what is told again after `step`; may be called from any thread."""
        self._step, self._past = step, None

    def deliver(self, entries: list[Entry]) -> None:
        """Write entries of one kind; raise Refused where trying again is of no use."""
        from mlflow.exceptions import MlflowException

        client, run_id = self._run()  # a run that cannot begin refuses nothing: later
        try:
            getattr(self, f"_write_{entries[0]['kind']}")(client, run_id, entries)
        except Exception as error:
            self._past = None  # what was written of these entries is past as well
            if isinstance(error, MlflowException) and error.error_code in _FINAL:
                raise Refused(str(error)) from error
            raise

    def _run(self) -> tuple[MlflowClient, str]:
        """Begin the run, or go on with it, when that has not been done yet."""
        from mlflow import MlflowClient

        if self._client is None:
            self._client = MlflowClient(self.tracking_uri)
        if not self._started:
            self._id_file.parent.mkdir(parents=True, exist_ok=True)
            self._continued = self.run_id is not None and self._continue(self._client, self.run_id)
            if not self._continued:
                self.run_id = self._create(self._client)
            _write(self._id_file, self.run_id)
            self._token.unlink(missing_ok=True)
            self._started = True
        return self._client, self.run_id

    @property
    def _token(self) -> Path:
        return self._id_file.with_name("mlflow_run_wanted.txt")

    def _create(self, client: MlflowClient) -> str:
        """Create the run, once: a kill before its id was written down does not make a second."""
        experiment = self._experiment(client)
        if self._token.is_file() and (token := self._token.read_text().strip()):
            found = client.search_runs([experiment], f"tags.`mario_dreamer.start` = '{token}'")
            if found:
                self._continued = True
                return found[0].info.run_id
        else:
            token = uuid.uuid4().hex
            _write(self._token, token)
        tags = {"mlflow.source.type": "LOCAL", "mlflow.source.name": "mario_dreamer"}
        tags["mario_dreamer.start"] = token
        return client.create_run(experiment, run_name=self.run_name, tags=tags).info.run_id

    def _known(self, client: MlflowClient, run_id: str, since: int | None = None) -> Past | None:
        """What the run was told before this process; None for a run that began with it.

        Args:
            since: remember points from this step on, if it is an earlier one than the resume's.
        """
        if not self._continued:
            return None
        step, past = self._step, self._past
        low = step if since is None or (step is not None and step < since) else since - 1
        if past is None or (low is not None and (past.step is None or low < past.step)):
            past = Past(client, run_id, low)
            if step == self._step:  # else `truncate_after` came meanwhile
                self._past = past
        return past

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

        late = [entry["step"] for entry in entries if "late" in entry]
        past = self._known(client, run_id, min(late, default=None))
        metrics = []
        for entry in entries:
            for name, value in entry["values"].items():
                point = Metric(_key(name), value, int(entry["time"] * 1000), entry["step"])
                if past is not None and "late" in entry:
                    if past.holds(point):
                        continue
                    past.note(point)
                elif past is not None and past.knows(point):
                    continue
                metrics.append(point)
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
            if not Path(entry["path"]).exists():  # deleted since; trying again is of no use
                log.warning("MLflow: %s is gone and was not logged", entry["path"])
                continue
            write = client.log_artifacts if Path(entry["path"]).is_dir() else client.log_artifact
            write(run_id, entry["path"], entry["folder"] or None)

    def _write_image(self, client: MlflowClient, run_id: str, entries: list[Entry]) -> None:
        from PIL import Image

        past = self._known(client, run_id)
        for entry in entries:
            # `#` and `/` mean something in the names of MLflow's image files.
            key = re.sub(r"[^\w.\-]", "_", entry["name"])
            if past is not None and past.knows_picture(key, entry["step"]):
                continue
            if not Path(entry["path"]).exists():
                log.warning("MLflow: %s is gone and was not logged", entry["path"])
                continue
            with Image.open(entry["path"]) as image:
                client.log_image(run_id, image, key=key, step=entry["step"])

    def _write_status(self, client: MlflowClient, run_id: str, entries: list[Entry]) -> None:
        assert entries[-1]["status"] in STATUSES, entries[-1]
        if "late" in entries[-1]:
            return  # how an earlier process ended; this one goes on
        client.set_terminated(
            run_id, entries[-1]["status"], end_time=int(entries[-1]["time"] * 1000)
        )
