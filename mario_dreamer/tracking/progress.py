"""Progress: how the run goes, on the terminal. Calm where one looks on, plain where one does not.

Facts have the names of the metric table. The screen is drawn by rich where it is installed and
stdout is a terminal; else each report is one line.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import IO, Any, Self

from mario_dreamer.tracking.run_facts import Facts, plain_line

__all__ = ["Progress"]


class Progress:
    """Show how the run goes, from the first step to `close`.

    Args:
        total_steps: agent steps of the whole run.
        start_step: agent steps when this process began; None: those of the first report.
        stream: where to write; None for stdout.
        live: draw a screen; None: if the stream is a terminal and rich is installed.
        title: name of the run.
    """

    def __init__(
        self,
        total_steps: int,
        start_step: int | None = None,
        stream: IO[str] | None = None,
        live: bool | None = None,
        title: str = "mario dreamer",
    ) -> None:
        self.facts = Facts(total_steps, start_step)
        self._stream = stream or sys.stdout
        self._screen = None
        if live is None:
            live = self._stream.isatty()
        if live:
            try:
                from mario_dreamer.tracking.screen import Screen
            except ModuleNotFoundError:  # rich is a comfort, not a need
                return
            self._screen = Screen(self.facts, self._stream, title)

    def tick(self, step: int) -> None:
        """Move the bar without a report; cheap, for every iteration of the loop."""
        self.facts.move(step)

    def update(self, facts: Mapping[str, Any]) -> None:
        """Show a report; on a plain stream this is one line.

        Args:
            facts: metric name -> number; `run/agent_steps` moves the bar.
        """
        self.facts.report(facts)
        if self._screen is None:
            self.note(plain_line(self.facts))

    def episode(self, facts: Mapping[str, Any]) -> None:
        """Count a finished training episode: play/return, and play/x_max, play/flag if known."""
        self.facts.episode(facts)

    def note(self, text: str) -> None:
        """Write a line of its own, above the screen if there is one."""
        if self._screen is not None:
            self._screen.note(text)
            return
        try:
            print(text, file=self._stream, flush=True)
        except (OSError, ValueError):  # the pipe is closed: nobody reads, learning goes on
            pass

    def close(self) -> None:
        """Leave the terminal as it was, with the last state standing."""
        if self._screen is not None:
            self._screen.close()
            self._screen = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
