"""Replay: TorchRL transitions become the paper's records, kept in rings, drawn as windows."""

from __future__ import annotations

from mario_dreamer.replay.buffer import Replay
from mario_dreamer.replay.compression import CompressedRecordStorage
from mario_dreamer.replay.make import make_replay
from mario_dreamer.replay.records import ToRecords, to_records
from mario_dreamer.replay.sampler import StreamSampler, ToWindows
from mario_dreamer.replay.storage import MemmapRecordStorage, RecordStorage
from mario_dreamer.replay.streams import Streams
from mario_dreamer.replay.writer import StreamWriter

__all__ = [
    "CompressedRecordStorage", "MemmapRecordStorage", "RecordStorage", "Replay", "StreamSampler",
    "StreamWriter", "Streams", "ToRecords", "ToWindows", "make_replay", "to_records",
]  # fmt: skip
