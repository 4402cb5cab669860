"""Reasons to stop early: a signal, the time limit, a closed stdout, a launcher that is gone."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from mario_dreamer.tracking.clock import work_seconds

log = logging.getLogger(__name__)


class Interrupt:
    """Turn the first signal into a request to stop; a second Ctrl-C or SIGTERM stops at once.

    Use as a context manager around the loop; outside the main thread it leaves signals alone.
    SIGHUP, of a terminal that is gone, comes several times and never stops at once; where it is
    ignored already, as `nohup` has it, it stays so.

    Args:
        minutes: working time after which to stop; None for no limit.
        closed: whether nobody reads stdout any more.
        echo: seconds in which further signals mean the first one still: torchrun hands a Ctrl-C
            on to processes that have got it from the terminal.
    """

    SIGNALS = tuple(
        getattr(signal, name)
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
        if hasattr(signal, name)  # Windows has no SIGHUP, the others no SIGBREAK
    )

    def __init__(
        self,
        minutes: float | None = None,
        closed: Callable[[], bool] = lambda: False,
        echo: float = 0.0,
    ) -> None:
        self._signal = ""
        self._closed = closed
        self._echo, self._first = echo, 0.0
        self._end = work_seconds() + 60 * minutes if minutes else float("inf")
        self._before: dict[int, object] = {}
        # A kill of torchrun with -9, or of a sweep, reaches none of the processes that it started.
        is_child = "TORCHELASTIC_RUN_ID" in os.environ or multiprocessing.parent_process() is not None
        self._launcher = os.getppid() if is_child else None

    @property
    def reason(self) -> str:
        """A signal's name, "launcher ended", "stdout closed", "minutes", or "" to go on."""
        if self._signal:
            return self._signal
        if self._launcher not in (None, os.getppid()):
            return "launcher ended"
        if self._closed():
            return "stdout closed"
        return "minutes" if work_seconds() > self._end else ""

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self._signal and name != "SIGHUP" and time.monotonic() - self._first >= self._echo:
            raise KeyboardInterrupt
        if not self._signal:
            self._signal, self._first = name, time.monotonic()
            again = "" if name == "SIGHUP" else " Once more to leave at once."
            log.warning("%s: saving a checkpoint, then leaving.%s", name, again)
