"""Keep the checkpoint with the best evaluation next to the newest ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import BEST, CheckpointError, verify

log = logging.getLogger(__name__)

FILE = "evaluation.json"


def keep_best(checkpoint: Path, step: int, metrics: Mapping[str, float]) -> Path | None:
    """Copy a checkpoint to `best` when no earlier one was evaluated as better.

    More flags are better, then a higher mean return; of equals the later one is kept. A disk that
    refuses is one line in the log. Returns the folder `best`; None when it was not replaced.

    Args:
        metrics: of the evaluation at this step, by the metric table's names.
    """
    if "eval_return" not in metrics:
        return None
    score = [metrics.get("eval/sampled/flag_rate", 0.0), metrics["eval_return"]]
    best = checkpoint.parent / BEST
    if verify(best) is None and _score(best) > score:
        return None
    text = json.dumps({"step": step, "score": score, "metrics": dict(metrics)}, indent=1)
    try:
        return Checkpoints(checkpoint.parent).save_best(step, checkpoint, {FILE: text})
    except CheckpointError as error:
        log.error("%s", error)
        return None


def _score(best: Path) -> list[float]:
    """The score that `best` was kept for; none where its file is not ours, so that it is replaced."""
    try:
        return [float(value) for value in json.loads((best / FILE).read_text("utf-8"))["score"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return []
