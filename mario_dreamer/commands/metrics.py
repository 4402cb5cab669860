"""mario-dreamer metrics: explain every metric that is logged.

    mario-dreamer metrics                   all of them, as a table
    mario-dreamer metrics train/kl kl       these
    mario-dreamer metrics out=metrics.md    all of them, as Markdown in a file

`<stage>` stands for a stage such as 1-2, `<condition>` for a condition of `mario-dreamer evaluate`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Column, Table

from mario_dreamer.tracking.metrics import METRICS, describe, markdown_table


def main() -> None:
    """Run the command; see the top of this file."""
    words = sys.argv[1:]
    try:
        if given := [word for word in words if word.startswith("out=")]:
            words = [word for word in words if word not in given]
            out = Path(given[-1].removeprefix("out="))
            out.write_text(markdown_table(words or None), encoding="utf-8")
            print(f"{out}: {len(words or METRICS)} metrics")
            return
        chosen = [describe(name) for name in words] if words else METRICS.values()
    except (KeyError, OSError) as error:
        print(f"error: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        sys.exit(1)
    name = Column("metric", no_wrap=True)
    others = [Column(title, overflow="fold") for title in ("meaning", "unit", "healthy", "computed in")]
    table = Table(name, *others, box=box.SIMPLE)
    for metric in chosen:
        table.add_row(metric.name, metric.meaning, metric.unit, metric.healthy, metric.where)
    Console(width=None if sys.stdout.isatty() else 160).print(table, markup=False)
