"""Hang the runs of a sweep below one parent run.

The process that starts a sweep describes it in an environment variable, which its jobs inherit,
in whatever processes a launcher runs them.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from mlflow import MlflowClient

SWEEP = "MARIO_DREAMER_SWEEP"  # "<id> <words that were typed>"
_TAG = "mario_dreamer.sweep"


def parent_tag(client: MlflowClient, experiment: str) -> dict[str, str]:
    """Return the tag that makes a run a child of its sweep's run, which is made if needed.

    Returns:
        empty for a run that belongs to no sweep.
    """
    sweep, _, words = os.environ.get(SWEEP, "").partition(" ")
    if not sweep:
        return {}
    mine = f"tags.`{_TAG}` = '{sweep}'"
    # Jobs of one machine wait for each other; of several machines the oldest parent serves all.
    file = Path(tempfile.gettempdir(), f"mario-dreamer-sweep-{sweep}.lock")
    with FileLock(file, timeout=120):
        if not client.search_runs([experiment], mine, max_results=1):
            tags = {_TAG: sweep, "mlflow.note.content": f"Sweep over {words}. Its runs are below."}
            made = client.create_run(experiment, run_name=f"sweep {words} {sweep}", tags=tags)
            client.set_terminated(made.info.run_id, "FINISHED")
        oldest = ["attributes.start_time ASC"]
        (parent,) = client.search_runs([experiment], mine, max_results=1, order_by=oldest)
    with contextlib.suppress(OSError):  # Windows deletes none that another job has open
        file.unlink()  # whoever waits for it finds the parent
    return {"mlflow.parentRunId": parent.info.run_id}
