"""Working time: seconds in which this process ran, without suspension and sleep of the machine."""

from __future__ import annotations

import os
import threading
import time

BEAT = 1.0
GAP = 10.0  # seconds without a beat: neither Python nor the machine was running


class _Clock:
    """Counts the gaps between the beats of a thread that does nothing else."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.last = time.monotonic()
        self.lost = 0.0
        self.lock = threading.Lock()
        threading.Thread(target=self._run, name="work-clock", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(BEAT)
            self.beat()

    def beat(self) -> float:
        """Note that the process runs; return the working seconds until now."""
        with self.lock:
            now = time.monotonic()
            if now - self.last > GAP:
                self.lost += now - self.last
            self.last = now
            return now - self.lost


_clock: _Clock | None = None


def work_seconds() -> float:
    """Return a monotonic time in seconds that stands still while the process is suspended."""
    global _clock
    if _clock is None or _clock.pid != os.getpid():  # a thread does not survive a fork
        _clock = _Clock()
    return _clock.beat()
