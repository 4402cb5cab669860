"""A text file that only grows, safe against crashes and full disks; and its lines, read as JSON."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mario_dreamer.tracking.atomic_file import write_text


class AppendOnly:
    """A text file that only grows; lines a full disk refuses are kept and written later.

    Args:
        path: the file. What lies there is kept, except half a last line.
        header: first line of a new file.
        capacity: refused lines kept at most, the newest ones.
    """

    def __init__(self, path: Path, header: str = "", capacity: int = 20_000) -> None:
        self.path, self._header = path, header
        self._waiting: deque[str] = deque(maxlen=capacity)
        self._whole = False  # the file has been looked at and ends in a whole line

    def append(self, text: str) -> None:
        """Write lines, each ending in a newline.

        Raises:
            OSError: when the disk refuses; nothing is lost.
        """
        self._waiting.extend(text.splitlines(keepends=True))
        self.flush()

    def flush(self) -> None:
        """Write what waits, all at once.

        Raises:
            OSError: when the disk refuses; nothing is lost.
        """
        if not self._waiting:
            return
        if not self._whole:
            self._repair()
        self._whole = False
        size = self.path.stat().st_size
        try:
            with self.path.open("ab") as file:
                file.write("".join(self._waiting).encode())
        except OSError:
            os.truncate(self.path, size)  # of several lines, the first may have found room
            raise
        self._whole = True
        self._waiting.clear()

    def keep_lines(self, stays: Callable[[str], bool]) -> None:
        """Drop the lines that do not stay; the file changes in one go, or not at all.

        Raises:
            OSError: when the disk refuses; the file is as it was.
        """
        if not self.path.is_file():
            return
        with self.path.open(encoding="utf-8", errors="replace") as old:
            kept = [x for x in old if x == self._header or (x.endswith("\n") and stays(x))]
        write_text(self.path, "".join(kept))

    def _repair(self) -> None:
        """Begin the file, or cut off half a last line that a crash left."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists() or not self.path.stat().st_size:
            self.path.write_text(self._header, "utf-8")
            return
        os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)

    def remove(self) -> None:
        """Delete the file, and forget what waits."""
        self._waiting.clear()
        self._whole = False
        self.path.unlink(missing_ok=True)


def parse_row(line: str) -> dict[str, Any] | None:
    """Read a line that holds a JSON object; None for half a line, and for what is no object."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def is_number(value: Any) -> bool:
    """Whether a JSON value is one, or the word for one: NaN and infinity are words there."""
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a file of lines; other lines are passed over.

    Raises:
        OSError: when it cannot be read.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from filter(None, map(parse_row, file))
