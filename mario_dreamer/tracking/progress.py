"""Progress on the terminal: a live display, or one line per report where stdout is no terminal."""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping
from typing import IO, Any, Self

from rich.console import Console
from rich.text import Text

from mario_dreamer.tracking.clock import work_seconds
from mario_dreamer.tracking.run_stats import RunStats
from mario_dreamer.tracking.screen import Screen

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def print_line(text: str, stream: IO[str] | None = None) -> None:
    """Print a line; a terminal gets it wrapped at words, a full disk later or never.

    Args:
        stream: where to; None for stdout.
    """
    stream = stream or sys.stdout
    try:
        if stream.isatty():
            Console(file=stream, highlight=False).print(Text(text))
        else:
            print(text, file=stream, flush=True)
    except OSError as error:
        if error.errno not in FULL:
            raise


class Progress:
    """Show how the run goes, from the first step to `close`.

    Args:
        stats: the numbers to show.
        stream: where to write; None for stdout.
        live: draw a live display; None: if the stream is a terminal.

    Attributes:
        closed: nobody reads the stream any more: the other end of a pipe, or the terminal, is gone.
    """

    def __init__(
        self,
        stats: RunStats,
        stream: IO[str] | None = None,
        live: bool | None = None,
        title: str = "mario-dreamer",
    ) -> None:
        self.stats = stats
        self._stream = stream or sys.stdout
        self._screen: Screen | None = None
        self.closed = False
        if self._stream.isatty() if live is None else live:
            self._screen = Screen(self.stats, self._stream, title)

    def update(self, values: Mapping[str, Any]) -> None:
        """Show a report; on a plain stream this is one line.

        Args:
            values: metric name -> number; `run/agent_steps` moves the bar.
        """
        self.stats.report(values)
        if self._screen is None:
            self.note(" | ".join(f"{what} {text}" for what, text in self.stats.groups().items()))

    def busy(self, what: str | None) -> None:
        """Show what takes time now, such as "saving", with its seconds; None: nothing does."""
        self.stats.busy = None if what is None else (what, work_seconds())

    def note(self, text: str) -> None:
        """Write a line of its own, above the live display if there is one."""
        try:
            if self._screen is not None:
                self._screen.note(text)
            else:
                print_line(text, self._stream)
        except (OSError, ValueError):
            self.closed = True

    def close(self) -> None:
        """Leave the terminal as it was, with the last state on it."""
        screen, self._screen = self._screen, None
        if screen is not None:
            try:
                screen.close()
            except (OSError, ValueError):
                self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class NoProgress(Progress):
    """Show nothing."""

    def __init__(self) -> None:
        super().__init__(RunStats(0), live=False)

    def note(self, text: str) -> None:
        """Write nothing."""
