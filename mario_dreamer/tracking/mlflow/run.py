"""One run in MLflow's database or server; everything here may wait, and may fail."""

from __future__ import annotations

import math
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from mario_dreamer.tracking.atomic_file import write_text
from mario_dreamer.tracking.mlflow.already_logged import AlreadyLogged
from mario_dreamer.tracking.mlflow.entries import WRITERS, key_of
from mario_dreamer.tracking.mlflow.store import open_store
from mario_dreamer.tracking.mlflow.sweep import parent_tag
from mario_dreamer.tracking.outbox import Entry, Refused
from mario_dreamer.tracking.tracker import log

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Asking again does not help with these answers of MLflow.
_FINAL = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE")
_ID, _WANTED = "mlflow_run_id.txt", "mlflow_run_wanted.txt"  # files of a run's folder
SOURCE = {"mlflow.source.type": "LOCAL", "mlflow.source.name": "mario_dreamer"}


def recorded_run(folder: Path | None) -> str | None:
    """Return the MLflow run that a run's folder belongs to, if there is one."""
    if folder is None:
        return None
    file = folder / _ID
    return (file.read_text("utf-8").strip() or None) if file.is_file() else None


def find_experiment(client: MlflowClient, name: str) -> str:
    """Find or make an experiment, and return its id.

    With a SQLite database its artifacts lie in the folder `mlruns` next to it.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        place = None
        if client.tracking_uri.startswith("sqlite:///"):
            database = Path(client.tracking_uri.removeprefix("sqlite:///")).resolve()
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


def is_known(
    client: MlflowClient, run_id: str, otherwise: str = "the results get a run of their own"
) -> bool:
    """Whether MLflow has the run, not deleted; a warning says so where it has not."""
    from mlflow.exceptions import MlflowException

    try:
        if client.get_run(run_id).info.lifecycle_stage == "active":
            return True
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
    log.warning("MLflow: run %s is unknown there; %s", run_id, otherwise)
    return False


def known_or_new_run(client: MlflowClient, run_id: str | None, name: str, experiment: str) -> str:
    """Return a run that MLflow has, else a new one of this name, which is finished already."""
    if run_id is not None and is_known(client, run_id):
        return run_id
    new = client.create_run(find_experiment(client, experiment), run_name=name, tags=SOURCE).info.run_id
    client.set_terminated(new)
    return new


class MLflowRun:
    """Begin a run, or go on with an old one, and write entries into it. Called by one thread.

    Args:
        experiment: name of the experiment; made when it is not there.
        run_id: run to go on with; None: the one that the folder belongs to, or a new one.
        folder: the run's; its id is written there.

    Attributes:
        experiment_id: of the run; None before it has begun, as is `client`.
    """

    def __init__(
        self,
        tracking_uri: str,
        experiment: str,
        run_name: str,
        run_id: str | None,
        folder: Path,
    ) -> None:
        self.tracking_uri, self.experiment, self.run_name = tracking_uri, experiment, run_name
        self.run_id, self._folder = run_id or recorded_run(folder), folder
        self.experiment_id: str | None = None
        self.client: MlflowClient | None = None
        self._end = math.inf  # agent steps that no point is after
        self._continued = False
        self._already: AlreadyLogged | None = None

    def truncate_after(self, step: int, since: float) -> None:
        """Leave out what is logged again after `step`.

        With a finite `since` also at `step`: an evaluation is repeated, whose numbers may be of an
        earlier life than the one that the run goes on from. May be called from any thread.
        """
        self._end, self._already = (step if math.isinf(since) else step - 1), None

    def deliver(self, entries: list[Entry]) -> None:
        """Write entries of one kind; raise Refused where trying again is of no use."""
        self._begin()  # a run that cannot begin refuses nothing: later
        from mlflow.exceptions import MlflowException

        try:
            WRITERS[entries[0]["kind"]](self, entries)
        except Exception as error:
            self._already = None  # what was written of these entries is logged as well
            if isinstance(error, MlflowException) and error.error_code in _FINAL:
                raise Refused(str(error)) from error
            raise

    def _begin(self) -> None:
        """Begin the run, or go on with it, when that has not been done yet."""
        if self.client is not None:
            return
        client, then = open_store(self.tracking_uri), f"a new run begins at {self.tracking_uri}"
        self._continued = self.run_id is not None and is_known(client, self.run_id, then)
        if self._continued:
            client.update_run(self.run_id, status="RUNNING")
        else:
            self.run_id = self._create(client)
        self.experiment_id = client.get_run(self.run_id).info.experiment_id
        write_text(self._folder / _ID, f"{self.run_id}\n")
        (self._folder / _WANTED).unlink(missing_ok=True)
        self.client = client

    def _create(self, client: MlflowClient) -> str:
        """Create the run, once: a kill before its id was written down does not make a second."""
        experiment = find_experiment(client, self.experiment)
        wanted = self._folder / _WANTED
        if wanted.is_file() and (token := wanted.read_text("utf-8").strip()):
            found = client.search_runs([experiment], f"tags.`mario_dreamer.start` = '{token}'")
            if found:
                self._continued = True
                return found[0].info.run_id
        else:
            token = uuid.uuid4().hex
            write_text(wanted, f"{token}\n")
        tags = {**SOURCE, "mario_dreamer.start": token, **parent_tag(client, experiment)}
        return client.create_run(experiment, run_name=self.run_name, tags=tags).info.run_id

    def remember(self, since: int | None = None) -> AlreadyLogged | None:
        """What was logged to the run before this process; None for a run that began with it.

        Args:
            since: remember points from this step on, if it is an earlier one than the resume's.
        """
        if not self._continued:
            return None
        end, already = self._end, self._already
        low = end if since is None else min(end, since - 1)
        if already is None or low < already.end:
            already = AlreadyLogged(self.client, self.run_id, low)
            if end == self._end:  # else `truncate_after` came meanwhile
                self._already = already
        return already
