"""Live display of a run, redrawn twice a second by rich."""

from __future__ import annotations

import logging
import sys
from typing import IO

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from mario_dreamer.tracking.run_stats import RunStats

_ARROWS = str.maketrans("^v=", "\u2191\u2193\u2192")  # where the terminal can show them
# One line of the display each, more where it is narrow; what is not known yet is left out.
_LINES = (("step", "frames", "updates", "speed"), ("replay", "memory"),
          ("episodes", "last 5 returns", "best x", "flags", "eval"))  # fmt: skip


class Screen:
    """Draw a run's numbers until closed. They are read, never written."""

    def __init__(self, stats: RunStats, stream: IO[str], title: str) -> None:
        self._stats, self._title = stats, title
        self._console = Console(file=stream, force_terminal=True, highlight=False)
        encoding = (getattr(stream, "encoding", None) or "ascii").lower()
        self._arrows = _ARROWS if encoding.startswith("utf") else {}
        self._live = Live(
            console=self._console,
            refresh_per_second=2,
            get_renderable=self.render,
            vertical_overflow="crop",
        )
        self._live.start()
        # Warnings go above the display: rich has put a stream of its own in place of stderr.
        self._handlers = [
            handler for handler in logging.getLogger().handlers
            if type(handler) is logging.StreamHandler and handler.stream is sys.__stderr__
        ]  # fmt: skip
        for handler in self._handlers:
            handler.setStream(sys.stderr)

    def render(self) -> RenderableType:
        """Build the display of this moment."""
        stats = self._stats
        groups = stats.groups()
        columns = Column(no_wrap=True), Column(ratio=1), Column(no_wrap=True)
        bar = Table.grid(*columns, padding=(0, 1), expand=True)
        done = min(stats.step, stats.total_steps)
        bar.add_row(
            Text(stats.phase, style="bold"),
            ProgressBar(total=max(1, stats.total_steps), completed=done),
            Text(groups["time"], style="cyan"),
        )
        lines = [Text(self._title, style="dim", overflow="ellipsis", no_wrap=True), bar]
        for labels in _LINES:
            items = [
                Text.assemble((f"{label} ", "dim"), groups[label])
                for label in labels if label in groups
            ]  # fmt: skip
            lines.append(Columns(items, padding=(0, 3)))
        first, *others = groups.get("losses", "").translate(self._arrows).split("  ")
        if first:
            items = [Text.assemble(("losses ", "dim"), first), *map(Text, others)]
            lines.append(Columns(items, padding=(0, 3)))
        return Group(*lines)

    def note(self, text: str) -> None:
        """Write a line above the display."""
        self._console.print(Text(text))

    def close(self) -> None:
        """Draw once more and let go of the terminal."""
        for handler in self._handlers:
            handler.setStream(sys.__stderr__)
        self._live.stop()
