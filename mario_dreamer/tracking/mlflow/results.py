"""Log results of an evaluation or a report to MLflow, without touching the run's status."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mario_dreamer.tracking.mlflow.entries import key_of
from mario_dreamer.tracking.mlflow.models import model_of_step, register_model
from mario_dreamer.tracking.mlflow.run import known_or_new_run, recorded_run
from mario_dreamer.tracking.mlflow.store import open_store, store_uri
from mario_dreamer.tracking.tracker import log


def uses_mlflow(track: bool | str, folder: Path | None) -> bool:
    """Decide whether results go to MLflow.

    Args:
        track: True, False, or "auto": where the run itself was logged there.
        folder: the run's; None where there is none.
    """
    if isinstance(track, bool):
        return track
    return recorded_run(folder) is not None


def log_results(
    run_id: str | None,
    name: str,
    metrics: Mapping[str, float],
    step: int,
    files: Sequence[Path],
    folder: str,
    tags: Mapping[str, str],
    tracking_uri: str | None = None,
    register: str | None = None,
) -> str | None:
    """Log numbers and files under a run, or under one of its own when MLflow does not know it.

    A run that is there keeps its status: it may be training at this moment.

    Args:
        run_id: the run looked at; None for a run of its own.
        step: agent steps of what was looked at.
        files: files and folders, put into `folder` of the run's artifacts.
        register: name of a registered model: where the run has a logged model of this step, it
            gets the metrics, becomes a version of that name and the alias `evaluated`.

    Returns:
        the run's id; None, with a warning, when MLflow is away or refuses.
    """
    uri = store_uri(tracking_uri)
    try:
        client = open_store(uri)
        from mlflow.entities import Metric, RunTag

        run_id = known_or_new_run(client, run_id, name, "mario-dreamer")
        model = model_of_step(client, run_id, step) if register is not None else None
        now = int(time.time() * 1000)
        points = [Metric(key_of(name), float(x), now, step, model) for name, x in metrics.items()]
        client.log_batch(run_id, points, tags=[RunTag(key, value) for key, value in tags.items()])
        if model is not None:
            version = register_model(client, run_id, model, register, tags)
            client.set_registered_model_alias(register, "evaluated", version)
        for path in files:
            write = client.log_artifacts if path.is_dir() else client.log_artifact
            write(run_id, str(path), folder)
    except Exception as error:  # noqa: BLE001 - databases raise many kinds; the files are there
        log.warning("MLflow: the results are on disk but not logged: %s", error)
        return None
    return run_id
