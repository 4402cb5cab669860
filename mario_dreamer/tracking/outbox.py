"""Deliver entries to a slow or failing writer from a thread of its own; lose none.

put(entry) -> queue -> write(list of entries)        all is well
                |
                +----> spool file                    the writer fails: also on disk, so that
                                                     a later run can still deliver it
"""

from __future__ import annotations

import itertools
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mario_dreamer.tracking.append_only import AppendOnly, read_rows

log = logging.getLogger("mario_dreamer.tracking")

Entry = dict[str, Any]


class Refused(Exception):
    """The writer will never take this entry: drop it instead of trying again."""


class Outbox:
    """Deliver entries in order, in groups of one kind, as soon as the writer takes them.

    Args:
        write: called with 1 .. `group` entries of equal `kind`; raises to be called again
            later with the same ones, or Refused to have them dropped. It has to bear repetition.
        spool: file for what cannot be delivered; what lies there is delivered first, with
            `late` set to True.
        name: in messages, to whom it goes.
        every: seconds between deliveries.
        capacity: entries kept at most; beyond it the oldest are dropped.
        group: entries given to one call.
    """

    def __init__(
        self,
        write: Callable[[list[Entry]], None],
        spool: Path,
        name: str,
        every: float = 5.0,
        capacity: int = 20_000,
        group: int = 50,
    ) -> None:
        self._write, self._spool, self.name = write, AppendOnly(spool, capacity=capacity), name
        self._every, self._capacity, self._group = every, capacity, group
        self._queue: deque[Entry] = deque(self._read_spool())
        self._spooled = len(self._queue)  # so many, from the left, are in the file already
        self._lines = self._spooled  # written to the file and not removed
        self._lock = threading.Lock()
        self._wake, self._stop = threading.Event(), threading.Event()
        self.tried = threading.Event()  # set after the first attempt to deliver, good or bad
        self.failing = False
        self.dropped = 0
        self._warned: set[str] = set()
        self._pause_until = 0.0
        self._pause = 1.0
        self._give_up = 0.0
        self._thread = threading.Thread(target=self._run, name=f"outbox {name}", daemon=True)
        self._thread.start()

    def put(self, entry: Entry, now: bool = False) -> None:
        """Take one entry, with a `kind` and JSON values; `now` asks for delivery at once."""
        with self._lock:
            self._queue.append(entry)
            if len(self._queue) > self._capacity:
                # Drop the oldest metrics; there are many of them. If there are none, the oldest.
                kinds = (i for i, entry in enumerate(self._queue) if entry["kind"] == "metrics")
                oldest = next(kinds, 0)
                del self._queue[oldest]
                self._spooled -= oldest < self._spooled
                self.dropped += 1
        if now:
            self._wake.set()

    def keep(self) -> None:
        """Put what is not delivered yet into the spool file as well: a kill then loses nothing.

        A full disk is no reason to stop.
        """
        with self._lock:
            if self._lines > 2 * self._capacity:  # mostly entries that were dropped since
                self._spool.remove()
                self._spooled = self._lines = 0
            count = len(self._queue) - self._spooled
            # From the right: what a server has missed for hours is not looked at again.
            fresh = [*itertools.islice(reversed(self._queue), count)][::-1]
            self._lines += count
            self._spooled = len(self._queue)
            try:
                self._spool.append("".join(json.dumps(entry) + "\n" for entry in fresh))
            except OSError as error:
                self._warn("spool", f"{self._spool.path} cannot be written: {error}")

    def close(self, timeout: float = 30.0) -> bool:
        """Deliver what is left; what cannot be delivered stays in the spool file.

        Args:
            timeout: seconds to wait at most.

        Returns:
            whether all was delivered.
        """
        # One that was failing before gets a last chance; one that is only busy, all the time.
        self._give_up = time.monotonic() + (0.0 if self.failing else timeout)
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout)
        if not self._queue:
            return True
        self.keep()
        log.warning(
            "%s: %d %s could not be delivered; kept in %s for the run to be resumed%s",
            self.name, len(self._queue), "entry" if len(self._queue) == 1 else "entries",
            self._spool.path, f" (older ones dropped: {self.dropped})" if self.dropped else "",
        )  # fmt: skip
        return False

    def _run(self) -> None:
        """Deliver until stopped; after a failure wait 1, 2, 4 ... 60 seconds."""
        while not self._stop.is_set():
            if time.monotonic() >= self._pause_until:
                self._deliver()
            else:
                self.keep()
            self._wake.wait(self._every)
            self._wake.clear()
        self._deliver()
        while self._queue and time.monotonic() < self._give_up:
            time.sleep(0.2)
            self._deliver()

    def _deliver(self) -> None:
        """Write groups until the queue is empty or the writer fails."""
        if not self._queue:
            return
        while self._queue:
            with self._lock:
                kind = self._queue[0]["kind"]
                same = itertools.takewhile(lambda entry: entry["kind"] == kind, self._queue)
                entries = list(itertools.islice(same, self._group))
            try:
                self._write(entries)
            except Refused as error:
                self._warn(f"refused {kind}", f"{kind} refused and dropped: {error}")
            except Exception as error:  # noqa: BLE001 - any failure means: later
                self._failed(error)
                return
            with self._lock:
                # By identity: `put` may have dropped some of these meanwhile.
                written = {id(entry) for entry in entries}
                while self._queue and id(self._queue[0]) in written:
                    self._queue.popleft()
                    self._spooled = max(0, self._spooled - 1)
        self._succeeded()

    def _failed(self, error: Exception) -> None:
        first_line = (str(error).strip().splitlines() or [""])[0][:300]
        self._warn(
            "failed",
            f"cannot be written to, training goes on and it is tried again "
            f"({type(error).__name__}: {first_line})",
        )
        self.failing = True
        self._pause_until = time.monotonic() + self._pause
        self._pause = min(60.0, 2 * self._pause)
        self.keep()
        self.tried.set()

    def _succeeded(self) -> None:
        """All is delivered: the spool file has done its work."""
        if self.failing:
            log.warning("%s: can be written to again; nothing is waiting", self.name)
            self._warned.discard("failed")
        self.failing, self._pause, self._pause_until = False, 1.0, 0.0
        with self._lock:
            if not self._queue:  # else somebody has just put and kept more: it stays there
                self._spooled = self._lines = 0
                self._spool.remove()
        self.tried.set()

    def _read_spool(self) -> list[Entry]:
        """What an earlier run left behind, the newest `capacity`; half a last line is left out."""
        rows = read_rows(self._spool.path) if self._spool.path.is_file() else ()
        entries = [{**row, "late": True} for row in rows if isinstance(row.get("kind"), str)]
        return entries[-self._capacity :]

    def _warn(self, topic: str, message: str) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            log.warning("%s: %s", self.name, message)
