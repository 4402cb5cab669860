"""Tables of the benchmarks: medians of several rounds, as CSV, as Markdown."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def medians(rounds: Sequence[Row]) -> dict[str, Any]:
    """One row of several rounds: medians of numbers, words of the first."""
    return {
        name: value if isinstance(value, str) else statistics.median(row[name] for row in rounds)
        for name, value in rounds[0].items()
    }


def shortened(row: Row) -> dict[str, str]:
    """The row as text, floats with four digits."""
    return {name: f"{x:.4g}" if isinstance(x, float) else str(x) for name, x in row.items()}


def write_rows(path: Path, rows: Sequence[Row], columns: Sequence[str] = ()) -> None:
    """Write a CSV, whose folder is made; without `columns` those of the first row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def markdown(rows: Sequence[Row], columns: Sequence[str] = ()) -> list[str]:
    """Lines of a Markdown table; columns as of `write_rows`."""
    head = columns or list(rows[0])
    cells = [head, *([str(row[name]) for name in head] for row in rows)]
    title, *lines = [f"| {' | '.join(line)} |" for line in cells]
    return [title, "|" + "---|" * len(head), *lines]
