"""What each metric means: look one up, print them all, spell them out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mario_dreamer.tracking.metric_table import ROWS

__all__ = ["METRICS", "Metric", "describe", "full_names", "markdown_table", "undocumented"]


@dataclass(frozen=True)
class Metric:
    """One metric, explained.

    Args:
        name: as logged, `group/name`, or one of the seed's plain names.
        meaning: one clause.
        unit: unit or range.
        healthy: what a good run looks like.
        where: file of the package that computes it.
    """

    name: str
    meaning: str
    unit: str
    healthy: str
    where: str


METRICS: dict[str, Metric] = {row[0]: Metric(*row) for row in ROWS}
assert len(METRICS) == len(ROWS), "metric_table.py: a name stands twice"


def describe(name: str) -> Metric:
    """Explain one metric.

    >>> describe("kl").unit
    'nats'

    Raises:
        KeyError: for a name that is not in the table, with the nearest one.
    """
    if name in METRICS:
        return METRICS[name]
    near = difflib.get_close_matches(name, METRICS, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise KeyError(
        f"metric {name!r} is not documented. {hint}All names stand in "
        "mario_dreamer/tracking/metric_table.py; add a row there for a new one."
    )


def undocumented(names: Iterable[str]) -> list[str]:
    """List those names that the table does not explain, in order."""
    return [name for name in names if name not in METRICS]


def full_names(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Give the learner's short names their group: `loss_dyn` becomes `train/loss_dyn`.

    A short name belongs to `train` or `dream`, whichever has it in the table; the seed's names
    stay and get their grouped twin too. Others (`posterior`, nested values) are left out.

    Args:
        metrics: short name -> 0-dim tensor or number.

    Returns:
        name of the table -> the same value.
    """
    named: dict[str, Any] = {}
    for short, value in metrics.items():
        short = "loss_total" if short == "total" else short
        found = [name for name in (short, f"train/{short}", f"dream/{short}") if name in METRICS]
        named.update(dict.fromkeys(found, value))
    return named


def markdown_table(names: Iterable[str] | None = None) -> str:
    """Write the table in Markdown, for the README.

    Args:
        names: rows to write; None for all.

    Returns:
        header, rule and one line per metric, each ending in a newline.
    """
    chosen = METRICS.values() if names is None else [describe(name) for name in names]
    lines = ["| metric | meaning | unit | healthy | computed in |", "|---|---|---|---|---|"]
    for metric in chosen:
        cells = [f"`{metric.name}`", metric.meaning, metric.unit, metric.healthy]
        cells = [cell.replace("|", "\\|") for cell in cells]
        lines.append(f"| {' | '.join(cells)} | `{metric.where}` |")
    return "\n".join(lines) + "\n"
