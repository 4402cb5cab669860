"""Bookkeeping of the rings: one per environment, all in one storage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Streams:
    """Count what was written to N rings of equal size, and what is still there.

    Ring s owns rows [s * rows, (s + 1) * rows) of the storage. A record's *position* counts
    its stream's records from the beginning and is never reused; its row is

        row = stream * rows + position % rows

    so a record has been overwritten exactly when its row now holds another position.
    Counts are kept twice: as Python ints for decisions on the host, and as tensors on the
    device so that sampling never waits for it.

    Args:
        capacity: number of records in all; rounded down to a multiple of `num_streams`.
        num_streams: N, the number of environments.
        device: where sampling happens.

    Raises:
        ValueError: capacity < num_streams, or num_streams < 1.
    """

    def __init__(
        self, capacity: int, num_streams: int = 1, device: torch.device | str = "cpu"
    ) -> None:
        if not 1 <= num_streams <= capacity:
            raise ValueError(
                "Streams: every stream needs room for a record; got "
                f"capacity={capacity}, num_streams={num_streams}. Raise replay.capacity."
            )
        self.rows = capacity // num_streams
        self.num_streams = num_streams
        self.capacity = self.rows * num_streams
        self.device = torch.device(device)
        self.set_written([0] * num_streams)

    def set_written(self, written: Iterable[int]) -> None:
        """Set how many records each stream has been given in all, on the host and the device."""
        self.written = list(written)
        self._written = torch.tensor(self.written, device=self.device)  # [N]

    def filled(self, stream: int) -> int:
        """Number of records of `stream` that are still there."""
        return min(self.written[stream], self.rows)

    def oldest(self, stream: int) -> int:
        """Position of the oldest record of `stream` that is still there."""
        return self.written[stream] - self.filled(stream)

    def __len__(self) -> int:
        return sum(self.filled(stream) for stream in range(self.num_streams))

    def num_starts(self, length: int) -> int:
        """Number of windows of `length` consecutive records, over all streams."""
        return sum(max(0, self.filled(s) - length + 1) for s in range(self.num_streams))

    def starts(self, length: int) -> tuple[Tensor, Tensor]:
        """Per stream: number of windows [N], and position of its oldest record [N]."""
        filled = self._written.clamp(max=self.rows)
        return (filled - length + 1).clamp(min=0), self._written - filled

    def row_of(self, stream: Tensor | int, position: Tensor) -> Tensor:
        """Rows, int64, of the records at `position` of `stream` (shapes broadcast)."""
        return stream * self.rows + position % self.rows

    def position_at(self, row: Tensor) -> Tensor:
        """Position, int64, of the record that `row` holds now; negative: none yet."""
        newest = self._written[row // self.rows] - 1
        return newest - (newest - row % self.rows) % self.rows

    def filled_rows(self) -> Tensor:
        """Rows [len(self)] of all records that are there, each stream from old to new."""
        rows = [
            self.row_of(s, torch.arange(self.oldest(s), written))
            for s, written in enumerate(self.written)
        ]
        return torch.cat(rows)

    def state_dict(self) -> dict[str, Any]:
        """Plain Python: the shape and the counts."""
        return {"rows": self.rows, "written": list(self.written)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the counts of a `state_dict` of the same rings."""
        self.set_written(state["written"])
