"""Write entries of the outbox into an MLflow run, one function for each kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mario_dreamer.tracking.mlflow.models import log_model, prune_models
from mario_dreamer.tracking.outbox import Entry
from mario_dreamer.tracking.tracker import log

if TYPE_CHECKING:
    from mario_dreamer.tracking.mlflow.run import MLflowRun

# MLflow's limits: characters of a value of a parameter and of a tag, of a key.
_PARAM, _TAG, _KEY = 6000, 8000, 250


def key_of(name: str) -> str:
    """Make a name that MLflow takes."""
    return re.sub(r"[^/\w.\- ]", "_", name)[:_KEY]


def _cut(text: str, limit: int) -> str:
    """Cut a text to the limit, visibly."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _write_metrics(run: MLflowRun, entries: list[Entry]) -> None:
    from mlflow.entities import Metric

    late = [entry["step"] for entry in entries if "late" in entry]
    already = run.remember(min(late, default=None))
    metrics = []
    for entry in entries:
        for name, value in entry["values"].items():
            point = Metric(key_of(name), value, int(entry["time"] * 1000), entry["step"])
            if already is not None and "late" in entry:
                if already.holds(point):
                    continue
                already.note(point)
            elif already is not None and already.knows(point):
                continue
            metrics.append(point)
    run.client.log_batch(run.run_id, metrics)


def _write_params(run: MLflowRun, entries: list[Entry]) -> None:
    from mlflow.entities import Param, RunTag

    known = run.client.get_run(run.run_id).data.params
    wanted: dict[str, str] = {}
    for entry in entries:
        wanted |= {key_of(key): _cut(value, _PARAM) for key, value in entry["params"].items()}
    fresh = [Param(key, value) for key, value in wanted.items() if key not in known]
    # MLflow lets nobody change a parameter, and a resumed run may well have other ones.
    changed = [
        RunTag(key_of(f"param_changed.{key}"), value)
        for key, value in wanted.items()
        if known.get(key, value) != value
    ]
    run.client.log_batch(run.run_id, params=fresh)
    run.client.log_batch(run.run_id, tags=changed)


def _write_tags(run: MLflowRun, entries: list[Entry]) -> None:
    from mlflow.entities import RunTag

    tags = {key: text for entry in entries for key, text in entry["tags"].items()}
    if "git.commit" in tags:
        tags["mlflow.source.git.commit"] = tags["git.commit"]  # shown on MLflow's page
    rows = [RunTag(key_of(key), _cut(text, _TAG)) for key, text in tags.items()]
    run.client.log_batch(run.run_id, tags=rows)


def _write_dataset(run: MLflowRun, entries: list[Entry]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    tag = InputTag("mlflow.data.context", "training")
    for entry in entries:
        data = Dataset(entry["name"], entry["digest"], "code", entry["source"])
        run.client.log_inputs(run.run_id, [DatasetInput(data, [tag])])


def _write_file(run: MLflowRun, entries: list[Entry]) -> None:
    for entry in entries:
        if _is_gone(entry):
            continue
        several = Path(entry["path"]).is_dir()
        write = run.client.log_artifacts if several else run.client.log_artifact
        write(run.run_id, entry["path"], entry["folder"] or None)


def _write_model(run: MLflowRun, entries: list[Entry]) -> None:
    for entry in entries:
        if Path(entry["path"]).exists():  # else pruned, or saved again and logged again
            log_model(run.client, run.run_id, Path(entry["path"]), entry["step"])
            prune_models(run.client, run.run_id)


def _write_image(run: MLflowRun, entries: list[Entry]) -> None:
    from PIL import Image

    already = run.remember()
    for entry in entries:
        # `#` and `/` mean something in the names of MLflow's image files.
        key = re.sub(r"[^\w.\-]", "_", entry["name"])
        if (already is not None and already.knows_picture(key, entry["step"])) or _is_gone(entry):
            continue
        with Image.open(entry["path"]) as image:
            run.client.log_image(run.run_id, image, key=key, step=entry["step"])


def _write_status(run: MLflowRun, entries: list[Entry]) -> None:
    if "late" in entries[-1]:
        return  # how an earlier process ended; this one goes on
    ended = int(entries[-1]["time"] * 1000)
    run.client.set_terminated(run.run_id, entries[-1]["status"], end_time=ended)


def _is_gone(entry: Entry) -> bool:
    """Whether a file was deleted since; trying again is of no use."""
    path = Path(entry["path"])
    gone = not path.exists()
    if gone and path.parent.exists():  # else a checkpoint that has been pruned: it had its time
        log.warning("MLflow: %s is gone and was not logged", path)
    return gone


# kind -> what writes entries of it
WRITERS: dict[str, Callable[[MLflowRun, list[Entry]], None]] = {
    "metrics": _write_metrics, "params": _write_params, "tags": _write_tags,
    "dataset": _write_dataset, "file": _write_file, "model": _write_model,
    "image": _write_image, "status": _write_status,
}  # fmt: skip
