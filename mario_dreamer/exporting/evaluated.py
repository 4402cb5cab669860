"""Find a checkpoint's evaluation and turn it into tags of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mario_dreamer.training.checkpoint_files import read_small_text, run_of

LARGEST = 2**27  # bytes of results.json
FILES = ("results.json", "evaluation/results.json")
PLAIN = "sampled-noops0-sticky0"  # the headline is taken from it, when it was played


def find_results(checkpoint: Path) -> Path | None:
    """Find the evaluation of a checkpoint: in its own folder, its run's, or the current one.

    The last two count only when they are of this checkpoint and not of another one.
    """
    own = checkpoint.resolve()
    run = run_of(own)
    for place in (own, run or own, Path.cwd()):
        for file in (place / name for name in FILES):
            if file.is_file() and (place == own or _is_of(file, own)):
                return file
    return None


def _is_of(file: Path, checkpoint: Path) -> bool:
    try:
        recorded = Path(str(json.loads(read_small_text(file, LARGEST)).get("checkpoint")))
    except (OSError, ValueError, AttributeError):
        return False
    # Runs are moved and copied: the names of run and checkpoint are what stays.
    return recorded.parts[-3:] == checkpoint.parts[-3:] or recorded.resolve() == checkpoint


def read_results(file: Path) -> list[dict[str, Any]]:
    """Read results.json as `mario-dreamer evaluate` writes it.

    Returns:
        for each condition: `actions`, `random_noops`, `sticky`, `summary`, and `stages` with a
        summary for each of several stages.

    Raises:
        ValueError: when it is not such a file.
    """
    try:
        results = json.loads(read_small_text(file, LARGEST))["results"]
        for entry in results:
            entry["actions"], entry["random_noops"], entry["sticky"]
            for summary in (entry["summary"], *dict(entry.get("stages", {})).values()):
                float(summary["episodes"]), float(summary["return"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{file} holds no evaluation ({type(error).__name__}: {error}). "
            "Expected a results.json written by mario-dreamer evaluate."
        ) from error
    return results


def evaluation_tags(results: list[dict[str, Any]], card: Mapping[str, Any]) -> dict[str, str]:
    """Return how good a checkpoint is: success rate with its 95 % interval, stage, steps.

    Args:
        results: of `read_results`; may be empty.
        card: of the exported program, for stage and agent steps.

    Returns:
        `agent_steps`, `stage`; with results also `success_rate`, `success_low`,
        `success_high`, `success_episodes`, `success_condition` of the plain start with sampled
        actions, and one line `evaluation.<condition>` for each condition.
    """
    known = ("agent_steps", "stage")
    tags = {key: str(card[key]) for key in known if card.get(key) is not None}
    headline = next((r for r in results if _name(r) == PLAIN), next(iter(results), None))
    if headline is not None and "flag_rate" in headline["summary"]:
        summary = headline["summary"]
        tags |= {
            "success_rate": f"{summary['flag_rate']:.4f}",
            "success_low": f"{summary['flag_low']:.4f}",
            "success_high": f"{summary['flag_high']:.4f}",
            "success_episodes": f"{summary['episodes']:.0f}",
            "success_condition": _name(headline),
        }
    return tags | {f"evaluation.{_name(entry)}": _line(entry["summary"]) for entry in results}


def _name(entry: Mapping[str, Any]) -> str:
    noops, sticky = int(entry["random_noops"]), float(entry["sticky"])
    return f"{entry['actions']}-noops{noops}-sticky{sticky:g}"


def _line(summary: Mapping[str, float]) -> str:
    parts = [f"{summary['episodes']:.0f} episodes", f"return {summary['return']:.1f}"]
    if "flag_rate" in summary:
        interval = f"[{summary['flag_low']:.3f}, {summary['flag_high']:.3f}]"
        parts.insert(0, f"flag {summary['flag_rate']:.3f} {interval}")
        parts.append(f"mean x {summary['x_max']:.0f}")
    return ", ".join(parts)
