"""The replay: one TensorDictReplayBuffer that holds every stream's records."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import TensorDictReplayBuffer

from mario_dreamer import keys
from mario_dreamer.checks import check
from mario_dreamer.replay.records import check_batch, to_classes
from mario_dreamer.replay.storage import CHUNK
from mario_dreamer.replay.streams import Streams


class Replay:
    """Store records and sample windows of them to learn from.

    Paper: arXiv:2301.04104, "Experience replay".

    A thin wrapper of `buffer`, a plain TorchRL TensorDictReplayBuffer: it adds latent write-back,
    a state that resumes bit for bit, and reading one batch ahead. Build it with `make_replay`.

    Args:
        buffer: made of RecordStorage, StreamWriter, StreamSampler, ToRecords and ToWindows.
        streams: counts of the rings, which they share.
        batch_size: B, windows per sample.
        generator: where the sampler's random numbers come from.
        prefetch: gather the next batch on a thread while the present one is learned from. It
            is drawn from what is there at the call of `sample`, so a run stays deterministic,
            one batch behind the newest records and latents.
    """

    def __init__(
        self,
        buffer: TensorDictReplayBuffer,
        streams: Streams,
        batch_size: int,
        generator: torch.Generator,
        prefetch: bool = False,
    ) -> None:
        self.buffer = buffer
        self.streams = streams
        self.batch_size = batch_size
        self.batch_length: int = buffer.sampler.length
        self.latents: bool = buffer.transform[0].latents
        self._generator = generator
        self._thread = ThreadPoolExecutor(1, "replay") if prefetch else None
        self._ahead: Future[TensorDictBase] | None = None

    def __len__(self) -> int:
        """Number of records that can be sampled now."""
        return len(self.streams)

    def ready(self) -> bool:
        """Whether B * T records (or all that fit) and one whole window are there."""
        enough = min(self.batch_size * self.batch_length, self.streams.capacity)
        return len(self) >= enough and self.streams.num_starts(self.batch_length) > 0

    def extend(self, transitions: TensorDictBase) -> Tensor:
        """Store transitions [N, n] (or [n], of a single stream) as records.

        Args:
            transitions: what the collector yields; see `to_records`. With `stream` in them they
                may be of some of the streams only.

        Returns:
            the rows written, int64 [number of records].

        Raises:
            ValueError: N is not the number of streams, shapes or types are wrong, a reward or a
                sensor is not a finite number. KeyError: a key is missing.
        """
        check_batch(transitions)  # the rest is checked where the records are made
        num_streams = transitions.shape[0] if transitions.ndim == 2 else 1
        if num_streams != self.streams.num_streams and keys.STREAM not in transitions.keys():
            raise ValueError(
                f"Replay.extend: made for num_streams={self.streams.num_streams} environments; "
                f"got transitions {list(transitions.shape)}. Give [num_streams, steps], and "
                "build the replay with num_streams = the environment's batch size."
            )
        self._flush()
        return self.buffer.extend(transitions)

    def sample(self, batch_size: int | None = None) -> TensorDictBase:
        """Draw windows of consecutive records, on the storage's device.

        Args:
            batch_size: B; None takes the one from the constructor.

        Returns:
            records [B, T]: those of `to_records` with float32 prev_action, plus `index` (row)
            and `step_id` (position in the stream), both int64 [B, T]; with latents prev_deter
            [B, T, D] as stored and prev_stoch one-hot uint8 [B, T, S, K]. The model needs the
            latents of t = 0 only, the rest is true as well.

        Raises:
            ValueError: no stream holds T records yet.
        """
        if self._thread is None or batch_size not in (None, self.batch_size):
            self._flush()
            return self.buffer.sample(batch_size or self.batch_size)
        batch = self.buffer.sample(self.batch_size) if self._ahead is None else self._ahead.result()
        self._ahead = self._thread.submit(self.buffer.sample, self.batch_size)
        return batch

    def peek(self, batch_size: int) -> TensorDictBase:
        """Sample windows without changing what the learner samples next."""
        self._flush()
        random_state, fresh = self._generator.get_state(), self.buffer.sampler.state_dict()
        batch = self.buffer.sample(batch_size)
        self._generator.set_state(random_state)
        self.buffer.sampler.load_state_dict(fresh)
        return batch

    def newest(self, stream: int, count: int) -> TensorDictBase:
        """Return the last `count` records of a stream (fewer where there are fewer), in order."""
        last = self.streams.written[stream]
        first = max(self.streams.oldest(stream), last - count)
        position = torch.arange(first, last, device=self.streams.device)
        return self.buffer.storage.get(self.streams.row_of(stream, position))

    def _flush(self) -> None:
        """Wait for the batch that is read ahead: nothing may change while it is gathered."""
        if self._ahead is not None:
            self._ahead.result()

    @torch.no_grad()
    def update_latents(self, index: Tensor, deter: Tensor, stoch: Tensor, step_id: Tensor) -> None:
        """Store the learner's newer states where the next windows will start.

        Paper: arXiv:2301.04104, "Experience replay". The state after record t is what the
        RSSM starts from at record t + 1 of the same window. Records that open an episode keep
        their zeros, and records overwritten since the sampling are left alone.

        Args:
            index, step_id: int64 [B, T] of the sampled batch.
            deter: h_t [B, T, D].
            stoch: z_t, one-hot [B, T, S, K].

        Raises:
            ValueError: this replay stores no latents.
        """
        if not self.latents:
            raise ValueError("Replay.update_latents: built with latents=False; set replay.latents.")
        storage = self.buffer.storage
        width, groups = (storage.column(key).shape[1] for key in (keys.PREV_DETER, keys.PREV_STOCH))
        sizes = {"D": width, "S": groups, "K": self.buffer.transform[0].classes}
        wanted = {"index": (index, "B T: index"), "step_id": (step_id, "B T: index"),
                  "deter": (deter, "B T D: number"), "stoch": (stoch, "B T S K: number")}  # fmt: skip
        check("Replay.update_latents", None, sizes, wanted)
        self._flush()
        row = index[:, 1:].flatten().to(self.streams.device)
        position = step_id[:, 1:].flatten().to(self.streams.device)
        is_first = storage.column(keys.IS_FIRST)[row, 0]
        still_there = self.streams.position_at(row) == position
        latents = {keys.PREV_DETER: deter, keys.PREV_STOCH: to_classes(stoch)}
        values = {
            # [B, T, ...] -> [B * (T - 1), ...]
            key: value[:, :-1].flatten(0, 1).to(row.device, storage.column(key).dtype)
            for key, value in latents.items()
        }
        finite = values[keys.PREV_DETER].isfinite().all(-1)  # not so after an update that was void
        storage.put(row, values, where=still_there & ~is_first & finite)

    def state_dict(self) -> dict[str, Any]:
        """Return everything a bit-equal resume needs, as tensors on CPU and plain Python.

        Holds a copy of the filled part of the storage, of files in files that are gone when the
        copy is; `torch.load(..., weights_only=True)` reads it.
        """
        self._flush()
        rows = self.streams.filled_rows()
        records = self.buffer.storage.copy_rows(rows.to(self.streams.device)) if len(rows) else {}
        ahead = self._ahead.result() if self._ahead is not None else {}
        return {
            "records": {key: value.cpu() for key, value in records.items()},
            "streams": self.streams.state_dict(),
            "sampler": self.buffer.sampler.state_dict(),
            "generator": self._generator.get_state(),
            "classes": self.buffer.transform[0].classes,
            "ahead": {key: value.clone().cpu() for key, value in ahead.items()},
        }

    def fits(self, state: dict[str, Any]) -> bool:
        """Whether a `state_dict` is of as many streams, rows and records a window as this."""
        here = (self.streams.num_streams, self.streams.rows, self.batch_length)
        counts = state["streams"]
        return here == (len(counts["written"]), counts["rows"], state["sampler"]["length"])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, into a replay of the same sizes.

        Raises:
            ValueError: capacity, number of streams or batch length differ.
        """
        if not self.fits(state):
            counts, length = state["streams"], state["sampler"]["length"]
            raise ValueError(
                f"Replay.load_state_dict: the checkpoint has {len(counts['written'])} streams of "
                f"{counts['rows']} rows and batch_length={length}, this replay "
                f"{self.streams.num_streams} of {self.streams.rows} and {self.batch_length}. "
                "Build it with the checkpoint's replay.capacity, num_envs and batch_length, or let "
                "`replay.redistribution.redistribute` fill it."
            )
        self._flush()
        device = self.streams.device
        self.streams.load_state_dict(state["streams"])
        rows = self.streams.filled_rows().to(device)
        if len(rows):
            records = TensorDict(state["records"], [len(rows)])
            for some, part in zip(rows.split(CHUNK), records.split(CHUNK), strict=True):
                self.buffer.storage.set(some, part.to(device))
        self.buffer.sampler.load_state_dict(state["sampler"])
        self._generator.set_state(state["generator"])
        self.buffer.transform[0].classes = state["classes"]
        self._ahead = None
        same = state["ahead"] and len(state["ahead"][keys.INDEX]) == self.batch_size
        if same and self._thread is not None:
            shape = [self.batch_size, self.batch_length]
            self._ahead = Future()
            self._ahead.set_result(TensorDict(state["ahead"], shape).to(device))
