"""Build the replay that a configuration describes."""

from __future__ import annotations

import torch
from torchrl.data import TensorDictReplayBuffer
from torchrl.envs.transforms import Compose

from mario_dreamer.replay.buffer import Replay
from mario_dreamer.replay.compression import CompressedRecordStorage
from mario_dreamer.replay.records import ToRecords
from mario_dreamer.replay.sampler import StreamSampler, ToWindows
from mario_dreamer.replay.storage import MemmapRecordStorage, RecordStorage
from mario_dreamer.replay.streams import Streams
from mario_dreamer.replay.writer import StreamWriter

FILES = ("memmap", "compressed")  # storages whose records lie on disk


def make_replay(
    capacity: int,
    num_streams: int = 1,
    batch_size: int = 16,
    batch_length: int = 64,
    online: bool = True,
    latents: bool = False,
    storage: str = "memory",
    path: str | None = None,
    device: torch.device | str = "cpu",
    prefetch: bool = False,
    seed: int = 0,
    latent_dtype: str = "float16",
    codec: str = "zlib",
    slot_bytes: int = 3072,
) -> Replay:
    """Build the replay.

    Args:
        capacity: records in all, shared equally by the streams.
        num_streams: N, the number of environments.
        batch_size: B, windows per sample.
        batch_length: T, records per window.
        online: serve each fresh window once before drawing uniformly.
        latents: store (h_{t-1}, z_{t-1}) with record t, so that windows start where they are.
        storage: "memory", "memmap" for files in `path` (None: a temporary folder), or
            "compressed" for files whose images are compressed.
        device: where the records lie and the sampling happens; files are CPU only.
        prefetch: gather one batch ahead on a thread.
        seed: of the sampler's own random numbers.
        latent_dtype: "float16" or "bfloat16", of prev_deter.
        codec, slot_bytes: of "compressed", see `CompressedRecordStorage`.

    Raises:
        ValueError: an unknown storage or dtype, files on a GPU, or a window longer than a ring.
    """
    streams = Streams(capacity, num_streams, device)
    if storage not in ("memory", *FILES) or latent_dtype not in ("float16", "bfloat16"):
        raise ValueError(
            'make_replay: storage is "memory", "memmap" or "compressed", latent_dtype "float16" '
            f'or "bfloat16"; got {storage!r}, {latent_dtype!r}.'
        )
    if storage in FILES and streams.device.type != "cpu":
        raise ValueError(
            f"make_replay: storage={storage!r} lies in files, so device must be cpu; got {device}."
        )
    generator = torch.Generator(streams.device).manual_seed(seed)
    if storage == "memory":
        records: RecordStorage | MemmapRecordStorage = RecordStorage(streams)
    elif storage == "memmap":
        records = MemmapRecordStorage(streams, path)
    else:
        records = CompressedRecordStorage(streams, path, codec, slot_bytes)
    buffer = TensorDictReplayBuffer(
        storage=records,
        writer=StreamWriter(streams),
        sampler=StreamSampler(streams, batch_length, online),
        transform=Compose(ToRecords(latents, getattr(torch, latent_dtype)), ToWindows(latents)),
        generator=generator,
    )
    return Replay(buffer, streams, batch_size, generator, prefetch)
