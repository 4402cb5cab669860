"""Storages of records: in memory, or in memory-mapped files."""

from __future__ import annotations

import mmap
import shutil
import tempfile
import weakref
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import LazyMemmapStorage, LazyTensorStorage

from mario_dreamer.replay.streams import Streams

CHUNK = 8192  # rows that are copied at a time


class _GatherRows:
    """Read rows by `index_select`; count what the streams hold.

    Advanced indexing of uint8 frames costs four times as much on CPU. Rows lie in rings, one
    region each, so "the first len(storage) rows" means nothing here.
    """

    streams: Streams
    _storage: Any

    def get(self, index: Any) -> Any:
        """Records at `index`: rows int64 of any shape, or what a TensorDict takes."""
        if not self.initialized:
            raise RuntimeError("RecordStorage: nothing was written yet, so nothing can be read.")
        if not isinstance(index, Tensor) or index.dtype != torch.int64:
            index = torch.arange(self.streams.capacity, device=self.streams.device)[index]
        return self._rows(index.flatten()).reshape(index.shape)

    def _rows(self, rows: Tensor) -> TensorDict:
        """Records at `rows`, int64 [M]."""
        records = {key: value.index_select(0, rows) for key, value in self._storage.items()}
        return TensorDict(records, rows.shape, device=self._storage.device)

    def copy_rows(self, rows: Tensor) -> dict[str, Tensor]:
        """Copy the records at `rows`, int64 [M], as key -> [M, ...]."""
        return dict(self.get(rows).items())

    def column(self, key: str) -> Tensor:
        """All rows of one key, [capacity, ...]; a view."""
        return self._storage[key]

    def row_kinds(self) -> dict[str, tuple[torch.Size, torch.dtype]]:
        """Shape and type that every record has under each key."""
        return {key: (column.shape[1:], column.dtype) for key, column in self._storage.items()}

    def put(self, row: Tensor, values: dict[str, Tensor], where: Tensor) -> None:
        """Overwrite some keys of single rows, without waiting for the device.

        Args:
            row: rows int64 [M]; of equal ones the last counts (so the result is
                deterministic whatever the number of threads).
            values: key -> [M, ...], in the storage's dtype.
            where: bool [M]; rows where it is False stay as they are.
        """
        order = row.argsort(stable=True)
        last = order[torch.searchsorted(row[order], row, right=True) - 1]  # of equal rows
        for key, value in values.items():
            stored = self._storage[key]
            where_wide = where.reshape(-1, *[1] * (value.ndim - 1))
            value = torch.where(where_wide, value, stored.index_select(0, row))
            stored.index_copy_(0, row, value[last])

    def __len__(self) -> int:
        return len(self.streams)

    def _empty(self) -> None:
        self.streams.set_written([0] * self.streams.num_streams)


class RecordStorage(_GatherRows, LazyTensorStorage):
    """Records in memory, on the device of `streams` (for a GPU: 12.3 kB a frame of 64 x 64).

    Args:
        streams: counts of the rings; gives the number of rows and the device.
    """

    def __init__(self, streams: Streams) -> None:
        super().__init__(streams.capacity, device=streams.device)
        self.streams = streams


class MemmapRecordStorage(_GatherRows, LazyMemmapStorage):
    """Records in files, for more of them than memory holds; the system caches what is read.

    Args:
        streams: counts of the rings, on CPU.
        path: folder of the files; None takes a temporary one and removes it at exit.
    """

    def __init__(self, streams: Streams, path: str | None = None) -> None:
        folder = path or tempfile.mkdtemp(prefix="replay-")
        super().__init__(streams.capacity, scratch_dir=folder, existsok=True)
        if path is None:  # TorchRL's own clean-up would take over Ctrl-C
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.streams = streams

    def copy_rows(self, rows: Tensor) -> dict[str, Tensor]:
        """As `RecordStorage.copy_rows` of at least one row, into files without a name: memory may
        be too small."""
        copies: dict[str, Tensor] = {}
        for key, (shape, dtype) in self.row_kinds().items():
            with tempfile.TemporaryFile(dir=self.scratch_dir) as file:
                size = len(rows) * shape.numel() * dtype.itemsize
                file.truncate(size)
                mapped = mmap.mmap(file.fileno(), size)
            copies[key] = torch.frombuffer(mapped, dtype=dtype).reshape(len(rows), *shape)
        for part in range(0, len(rows), CHUNK):
            for key, values in self.get(rows[part : part + CHUNK]).items():
                copies[key][part : part + CHUNK] = values
        return copies
