"""Screen: the live display, redrawn twice a second by rich. Imported only where rich is there."""

from __future__ import annotations

from typing import IO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mario_dreamer.tracking.run_facts import Facts

__all__ = ["Screen"]

_ARROWS = ("\u2191", "\u2193", "\u2192")  # up, down, level
_PLAIN = ("^", "v", "=")
# One line of the screen each; what is not known yet is left out.
_LINES = (("step", "frames", "updates"), ("speed", "replay", "memory"),
          ("episodes", "return", "best x", "flags", "eval"), ("losses",))  # fmt: skip


class Screen:
    """Draw the facts until closed. Facts are read, never written.

    Args:
        facts: what is shown.
        stream: the terminal.
        title: name of the run.
    """

    def __init__(self, facts: Facts, stream: IO[str], title: str) -> None:
        self._facts, self._title = facts, title
        self._console = Console(file=stream, force_terminal=True, highlight=False)
        encoding = (getattr(stream, "encoding", None) or "ascii").lower()
        self._signs = _ARROWS if encoding.startswith("utf") else _PLAIN
        self._live = Live(
            console=self._console,
            refresh_per_second=2,
            get_renderable=self.render,
            vertical_overflow="crop",
        )
        self._live.start()

    def render(self) -> RenderableType:
        """Build the display of this moment."""
        facts = self._facts
        groups = facts.groups(self._signs)
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(no_wrap=True)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True)
        share = min(facts.step, facts.total_steps)
        bar.add_row(
            Text(self._title, style="bold"),
            ProgressBar(total=max(1, facts.total_steps), completed=share),
            Text(groups["time"], style="cyan"),
        )
        lines = []
        for labels in _LINES:
            line = Text(overflow="fold")
            for label in labels:
                if label in groups:
                    line.append(f"{label} ", style="dim")
                    line.append(f"{groups[label]}   ")
            if line:
                lines.append(line)
        return Group(bar, *lines)

    def note(self, text: str) -> None:
        """Write a line above the display."""
        self._console.print(Text(text))

    def close(self) -> None:
        """Draw once more and let go of the terminal."""
        self._live.stop()
