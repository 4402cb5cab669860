"""Look up what a metric means; give metrics their full names and the seed's six aliases."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mario_dreamer.tracking.metric_table import ROWS


@dataclass(frozen=True)
class Metric:
    """One metric, explained.

    Args:
        name: as logged, `group/name`; `<stage>` and `<condition>` stand for any word.
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

# The seed's names: each the sum of what is logged under the full names.
SEED_NAMES: dict[str, tuple[str, ...]] = {
    "train_return": ("play/return",),
    "eval_return": ("eval/sampled/return",),
    "model_loss": tuple(f"train/loss_{term}" for term in ("recon", "reward", "cont", "dyn", "rep")),
    "actor_loss": ("train/loss_actor",),
    "value_loss": ("train/loss_critic", "train/loss_critic_replay"),
    "kl": ("train/kl",),
}

_PATTERNS = {
    re.compile(re.sub(r"<\w+>", "[^/]+", re.escape(name).replace("\\<", "<"))): name
    for name in METRICS
    if "<" in name
}


def _row_of(name: str) -> str | None:
    """The table's name for a logged one: itself, or the pattern that it fits."""
    if name in METRICS:
        return name
    return next((row for pattern, row in _PATTERNS.items() if pattern.fullmatch(name)), None)


def describe(name: str) -> Metric:
    """Explain one metric.

    >>> describe("kl").unit
    'nats'

    Raises:
        KeyError: for a name that is not in the table, with the nearest one.
    """
    row = _row_of(name)
    if row is not None:
        return METRICS[row]
    near = difflib.get_close_matches(name, METRICS, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise KeyError(
        f"metric {name!r} is not documented. {hint}`mario-dreamer metrics` prints all names; "
        "tracking/metric_table.py holds them."
    )


def undocumented(names: Iterable[str]) -> list[str]:
    """List those names that the table does not explain, in order."""
    return [name for name in names if _row_of(name) is None]


def full_names(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Give the learner's short names their group: `loss_dyn` becomes `train/loss_dyn`.

    The group is `train` or `dream`, whichever has the name in the table. A name that neither has,
    such as that of a loss from elsewhere, stays as it is.

    Args:
        metrics: short name -> number or tensor; of several elements the mean is taken.

    Returns:
        full name -> number or 0-dim tensor.
    """
    named: dict[str, Any] = {}
    for short, value in metrics.items():
        short = "loss_total" if short == "total" else short
        found = [name for name in (f"train/{short}", f"dream/{short}") if name in METRICS]
        several = getattr(value, "ndim", 0) > 0
        named[found[0] if found else short] = value.float().mean() if several else value
    return named


def with_seed_names(values: Mapping[str, float]) -> dict[str, float]:
    """Add those of the seed's six names whose parts are there.

    >>> with_seed_names({"train/loss_critic": 1.0, "train/loss_critic_replay": 0.5})["value_loss"]
    1.5
    """
    sums = {
        name: sum(values[part] for part in parts if part in values)
        for name, parts in SEED_NAMES.items()
        if any(part in values for part in parts)
    }
    return {**values, **sums}


def markdown_table(names: Iterable[str] | None = None) -> str:
    """Write the table in Markdown.

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
