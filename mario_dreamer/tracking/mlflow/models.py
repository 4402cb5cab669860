"""Log the models of a run to MLflow as logged models, with metrics; register the evaluated one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Metric

NAME, STEP = "policy", "agent_steps"  # the models' name; the tag that says how long they learned
_KEPT = 2  # newest models of a run; also kept: the best one and registered ones
_REGISTERED = "mlflow.modelVersions"  # MLflow's own tag
# What a model is compared by, first the best one's.
METRICS = (
    "eval/sampled/return", "eval/sampled/flag_rate", "eval/greedy/return", "eval/greedy/flag_rate",
    "play/return_mean", "play/flag_rate",
)  # fmt: skip


def log_model(
    client: MlflowClient,
    run_id: str,
    path: Path,
    step: int,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Log one model, with the run's newest metrics up to its step; return its id.

    A model of the same step that is there stays as it is, and one half logged is replaced.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    experiment = client.get_run(run_id).info.experiment_id
    for model in _models(client, run_id):
        if model.tags[STEP] == str(step):
            if model.status == LoggedModelStatus.READY:
                return model.model_id
            client.delete_logged_model(model.model_id)
    tags = {**(tags or {}), STEP: str(step)}
    new = client.create_logged_model(experiment, NAME, run_id, tags, model_type="policy").model_id
    client.log_model_artifacts(new, str(path))
    if points := _newest_points(client, run_id, step, new):
        client.log_batch(run_id, metrics=points)
    client.log_outputs(run_id, [LoggedModelOutput(new, step)])
    client.finalize_logged_model(new, LoggedModelStatus.READY)
    return new


def _newest_points(client: MlflowClient, run_id: str, step: int, model_id: str) -> list[Metric]:
    """The run's own newest points up to a step, for a model; MLflow keeps one of equal points."""
    from mlflow.entities import Metric

    found = []
    for name in METRICS:
        history = client.get_metric_history(run_id, name)
        if past := [point for point in history if point.step <= step]:
            last = max(past, key=lambda point: (point.step, point.timestamp))
            found.append(Metric(name, last.value, last.timestamp, last.step, model_id))
    return found


def _models(client: MlflowClient, run_id: str) -> list[LoggedModel]:
    """The run's models, newest first."""
    experiment = client.get_run(run_id).info.experiment_id
    found = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    own = [model for model in found if STEP in model.tags]
    return sorted(own, key=lambda model: int(model.tags[STEP]), reverse=True)


def model_of_step(client: MlflowClient, run_id: str, step: int) -> str | None:
    """Return the id of the run's model of this step; None where it has none."""
    found = (model.model_id for model in _models(client, run_id) if model.tags[STEP] == str(step))
    return next(found, None)


def prune_models(client: MlflowClient, run_id: str) -> None:
    """Delete the models of a run but the two newest, the best and the registered ones."""
    models = _models(client, run_id)
    best = max(models, key=_score, default=None)
    for model in models[_KEPT:]:
        if model is best or _REGISTERED in model.tags:
            continue
        client.delete_logged_model(model.model_id)
        if model.artifact_location.startswith("file:"):  # MLflow itself would keep the files
            from mlflow.utils.file_utils import local_file_uri_to_path

            shutil.rmtree(local_file_uri_to_path(model.artifact_location), ignore_errors=True)


def _score(model: LoggedModel) -> float:
    found = {metric.key: metric.value for metric in model.metrics or []}
    return next((found[name] for name in METRICS if name in found), float("-inf"))


def register_model(
    client: MlflowClient, run_id: str, model_id: str, name: str, tags: Mapping[str, str]
) -> str:
    """Make a logged model a version of a registered model, once; return the version."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = client.get_logged_model(model_id).artifact_location
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.source == source:
            for key, value in tags.items():
                client.set_model_version_tag(name, version.version, key, value)
            return version.version
    return client.create_model_version(name, source, run_id, dict(tags), model_id=model_id).version
