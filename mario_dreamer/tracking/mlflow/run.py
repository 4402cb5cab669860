"""One run in MLflow's database or server; everything here may wait, and may fail."""

from __future__ import annotations

import math
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from mario_dreamer.tracking.mlflow.entries import WRITERS, OpenRun, key_of
from mario_dreamer.tracking.mlflow.past import Past
from mario_dreamer.tracking.mlflow.store import open_store
from mario_dreamer.tracking.mlflow.sweep import parent_tag
from mario_dreamer.tracking.outbox import Entry, Refused
from mario_dreamer.tracking.tracker import log

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Asking again does not help with these answers of MLflow.
_FINAL = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE")
SOURCE = {"mlflow.source.type": "LOCAL", "mlflow.source.name": "mario_dreamer"}


def find_experiment(client: MlflowClient, name: str, tracking_uri: str) -> str:
    """Find or make an experiment, and return its id.

    With a SQLite database its artifacts lie in the folder `mlruns` next to it.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        place = None
        if tracking_uri.startswith("sqlite:///"):
            database = Path(tracking_uri.removeprefix("sqlite:///")).resolve()
            place = (database.parent / "mlruns" / key_of(name)).as_uri()
        try:
            return client.create_experiment(name, artifact_location=place)
        except MlflowException:  # another run was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def is_known(client: MlflowClient, run_id: str) -> bool:
    """Whether MLflow has the run, not deleted; a warning says so where it has not."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        log.warning("MLflow: run %s is unknown there; the results get a run of their own", run_id)
        return False


def _write(path: Path, text: str) -> None:
    """Write a line in one go: a kill leaves the whole of it or nothing."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(f"{text}\n", "utf-8")
    draft.replace(path)


class MLflowRun:
    """Begin a run, or go on with an old one, and write entries into it. Called by one thread.

    Args:
        experiment: name of the experiment; made when it is not there.
        run_id: run to go on with; None for a new one.
        id_file: the run's id is written there.

    Attributes:
        experiment_id: of the run; None before it has begun.
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
        self.experiment_id: str | None = None
        self._client: MlflowClient | None = None
        self._end: tuple[int, float] | None = None
        self._continued = False
        self._past: Past | None = None

    def truncate_after(self, step: int, since: float) -> None:
        """Leave out what is logged again after `step`, and at `step` after the time `since`.

        May be called from any thread.
        """
        self._end, self._past = (step, since), None

    def deliver(self, entries: list[Entry]) -> None:
        """Write entries of one kind; raise Refused where trying again is of no use."""
        client, run_id = self._begin()  # a run that cannot begin refuses nothing: later
        from mlflow.exceptions import MlflowException

        try:
            WRITERS[entries[0]["kind"]](OpenRun(client, run_id, self._remember), entries)
        except Exception as error:
            self._past = None  # what was written of these entries is past as well
            if isinstance(error, MlflowException) and error.error_code in _FINAL:
                raise Refused(str(error)) from error
            raise

    def _begin(self) -> tuple[MlflowClient, str]:
        """Begin the run, or go on with it, when that has not been done yet."""
        if self._client is None:
            client = open_store(self.tracking_uri)
            self._id_file.parent.mkdir(parents=True, exist_ok=True)
            self._continued = self.run_id is not None and self._continue(client, self.run_id)
            if not self._continued:
                self.run_id = self._create(client)
            self.experiment_id = client.get_run(self.run_id).info.experiment_id
            _write(self._id_file, self.run_id)
            self._token.unlink(missing_ok=True)
            self._client = client
        return self._client, self.run_id

    @property
    def _token(self) -> Path:
        return self._id_file.with_name("mlflow_run_wanted.txt")

    def _create(self, client: MlflowClient) -> str:
        """Create the run, once: a kill before its id was written down does not make a second."""
        experiment = find_experiment(client, self.experiment, self.tracking_uri)
        if self._token.is_file() and (token := self._token.read_text("utf-8").strip()):
            found = client.search_runs([experiment], f"tags.`mario_dreamer.start` = '{token}'")
            if found:
                self._continued = True
                return found[0].info.run_id
        else:
            token = uuid.uuid4().hex
            _write(self._token, token)
        tags = {**SOURCE, "mario_dreamer.start": token, **parent_tag(client, experiment)}
        return client.create_run(experiment, run_name=self.run_name, tags=tags).info.run_id

    def _continue(self, client: MlflowClient, run_id: str) -> bool:
        """Set an old run to RUNNING; False, with a warning, when MLflow does not know it."""
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

    def _remember(self, since: int | None = None) -> Past | None:
        """What was logged to the run before this process; None for a run that began with it.

        Args:
            since: remember points from this step on, if it is an earlier one than the resume's.
        """
        if not self._continued:
            return None
        end, past = self._end, self._past
        late = None if since is None else (since - 1, math.inf)
        low = min((place for place in (end, late) if place is not None), default=None)
        if past is None or (low is not None and (past.end is None or low < past.end)):
            past = Past(self._client, self.run_id, low)
            if end == self._end:  # else `truncate_after` came meanwhile
                self._past = past
        return past
