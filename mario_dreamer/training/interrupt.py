"""Ctrl-C and SIGTERM: finish the step at hand, save, leave."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType

__all__ = ["Interrupt"]

log = logging.getLogger(__name__)


class Interrupt:
    """Turn the first SIGINT or SIGTERM into a polite request; the second one is obeyed at once.

    Use as a context manager around the loop; it does nothing outside the main thread.

    Attributes:
        requested: a signal has come, the loop should save and leave.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        name = signal.Signals(number).name
        log.warning("%s: saving a checkpoint, then leaving. Once more to leave at once.", name)
