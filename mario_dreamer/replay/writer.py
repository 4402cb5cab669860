"""Write each record into the next slot of its stream's ring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data.replay_buffers import Writer

from mario_dreamer import keys
from mario_dreamer.replay.streams import Streams


class StreamWriter(Writer):
    """A TorchRL writer with one ring per stream; records of several may come mixed.

    Args:
        streams: counts of the rings, shared with the sampler and the storage.
    """

    def __init__(self, streams: Streams) -> None:
        super().__init__()
        self.streams = streams

    def add(self, data: TensorDictBase) -> int:
        """Write one record []; return its row."""
        return int(self.extend(data[None])[0])

    def extend(self, data: TensorDictBase) -> Tensor:
        """Write records [M] in the order of time; return their rows, int64 [M].

        Of more records than a ring has rows, the last ones stay.

        Raises:
            ValueError: a record's stream is not one of the streams.
        """
        streams = self.streams
        self._check(data)
        stream = data[keys.STREAM].cpu()  # [M]; the host decides where to write
        counts = torch.bincount(stream, minlength=streams.num_streams)
        if len(counts) > streams.num_streams:
            raise ValueError(
                f"replay: records of stream {len(counts) - 1} came, but there are only "
                f"{streams.num_streams}. Set num_streams to the number of environments."
            )
        # Number the records of each stream: their rank among their stream's own.
        order = stream.argsort(stable=True)
        rank = torch.empty_like(stream)
        rank[order] = torch.arange(len(stream)) - (counts.cumsum(0) - counts)[stream[order]]
        written = torch.tensor(streams.written)
        row = streams.row_of(stream, written[stream] + rank)
        streams.set_written((written + counts).tolist())
        stays = rank >= counts[stream] - streams.rows
        kept, records = (row, data) if stays.all() else (row[stays], data[stays])
        self._storage.set(kept.to(streams.device), records.to(streams.device))
        return row.to(data[keys.STREAM].device)

    def _check(self, data: TensorDictBase) -> None:
        """Raise ValueError when records have other shapes or types than those stored before."""
        if not self._storage.initialized:
            return
        for key, (shape, dtype) in self._storage.row_kinds().items():
            value = data.get(key, None)
            if value is None or value.shape[1:] != shape or value.dtype != dtype:
                raise ValueError(
                    f"Replay.extend: {key} has been {list(shape)} {dtype} in "
                    f"every record so far; got {'none' if value is None else list(value.shape[1:])}"
                    f" {getattr(value, 'dtype', '')}. One replay holds records of one kind."
                )

    def _empty(self, empty_write_count: bool = True) -> None:
        """Nothing: the storage resets the counts."""

    def state_dict(self) -> dict[str, Any]:
        """The counts of the rings."""
        return self.streams.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.streams.load_state_dict(state_dict)

    def dumps(self, path: str | Path) -> None:
        """Save the counts to the folder `path`."""
        Path(path).mkdir(parents=True, exist_ok=True)
        torch.save(self.state_dict(), Path(path) / "streams.pt")

    def loads(self, path: str | Path) -> None:
        """Load what `dumps` saved."""
        self.load_state_dict(torch.load(Path(path) / "streams.pt", weights_only=True))
