"""Draw windows of T consecutive records, and correct the flags at their edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data.replay_buffers import Sampler, Storage
from torchrl.envs.transforms import Transform

from mario_dreamer import keys
from mario_dreamer.replay.streams import Streams


class StreamSampler(Sampler):
    """Sample windows inside one stream, uniform over all start positions.

    Paper: arXiv:2301.04104, "Experience replay". A window may cross the end of an episode (the
    model resets on is_first), so first, last and short episodes are all learned; it never
    crosses a ring's write head. With `online`, each stretch of T new records of a stream is
    served once, as one window, before anything is drawn.

    Drawing touches no tensor of the storage and never waits for the device.

    Args:
        streams: counts of the rings, shared with the writer and the storage.
        length: T, records per window.
        online: serve fresh windows first.

    Raises:
        ValueError: length is less than 1 or more than a ring holds.
    """

    def __init__(self, streams: Streams, length: int, online: bool = False) -> None:
        super().__init__()
        if not 1 <= length <= streams.rows:
            raise ValueError(
                f"replay: batch_length={length} does not fit a stream's ring of {streams.rows} "
                f"records (capacity {streams.capacity} / {streams.num_streams} streams). "
                "Raise replay.capacity or lower batch_length."
            )
        self.streams = streams
        self.length = length
        self.online = online
        self._fresh = [0] * streams.num_streams  # position where the next fresh window starts

    def sample(self, storage: Storage, batch_size: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw `batch_size` = B windows: rows int64 [B, T], and their positions as "step_id".

        Raises:
            ValueError: no stream holds T records yet.
        """
        streams = self.streams
        if streams.num_starts(self.length) == 0:
            raise ValueError(
                f"replay: no stream holds batch_length={self.length} records yet; records per "
                f"stream: {[streams.filled(s) for s in range(streams.num_streams)]}. Collect "
                "more before learning (see replay.ready()), or lower batch_length."
            )
        stream, position = self._uniform(batch_size)
        if self.online:
            fresh = self._pop_fresh(batch_size)  # [2, k]
            stream = torch.cat([fresh[0], stream[fresh.shape[1] :]])
            position = torch.cat([fresh[1], position[fresh.shape[1] :]])
        # [B] -> [B, T]
        position = position[:, None] + torch.arange(self.length, device=streams.device)
        index = streams.row_of(stream[:, None], position)
        return index, {keys.STEP_ID: position}

    def _uniform(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Streams [B] and start positions [B], every window in replay equally likely."""
        count, oldest = self.streams.starts(self.length)  # [N], [N]
        last = count.cumsum(0)  # [N]: windows up to and with this stream
        draw = torch.rand(
            batch_size, generator=self._rng, device=self.streams.device, dtype=torch.float64
        )
        window = (draw * last[-1]).long().clamp(max=last[-1] - 1)  # [B] in [0, all windows)
        stream = torch.searchsorted(last, window, right=True)
        return stream, oldest[stream] + window - (last - count)[stream]

    def _pop_fresh(self, limit: int) -> Tensor:
        """At most `limit` windows never served, [2, k]: their streams, their starts."""
        streams, length = self.streams, self.length
        for s in range(streams.num_streams):
            lost = max(0, streams.oldest(s) - self._fresh[s])
            self._fresh[s] += -(-lost // length) * length  # overwritten before being served
        popped: list[tuple[int, int]] = []
        while len(popped) < limit:
            waiting = [w - f for w, f in zip(streams.written, self._fresh, strict=True)]
            if max(waiting) < length:
                break
            s = waiting.index(max(waiting))  # the longest queue first
            popped.append((s, self._fresh[s]))
            self._fresh[s] += length
        fresh = torch.tensor(popped, dtype=torch.int64).reshape(-1, 2).T.contiguous()
        if streams.device.type == "cuda":
            return fresh.pin_memory().to(streams.device, non_blocking=True)
        return fresh

    def skip_fresh(self) -> None:
        """Count all records that are there as served already."""
        self._fresh = list(self.streams.written)

    def _empty(self) -> None:
        self._fresh = [0] * self.streams.num_streams

    def state_dict(self) -> dict[str, Any]:
        """Plain Python: where each stream's next fresh window starts."""
        return {"fresh": list(self._fresh), "length": self.length}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self._fresh = list(state_dict["fresh"])

    def dumps(self, path: str | Path) -> None:
        """Save to the folder `path`."""
        Path(path).mkdir(parents=True, exist_ok=True)
        torch.save(self.state_dict(), Path(path) / "sampler.pt")

    def loads(self, path: str | Path) -> None:
        """Load what `dumps` saved."""
        self.load_state_dict(torch.load(Path(path) / "sampler.pt", weights_only=True))


class ToWindows(Transform):
    """Correct is_first and is_last of windows of records [B, T]; applied by `sample`.

    * A record right before an is_first is the last of its episode, even if a crash or a
      resume cut the episode before the environment could say so.
    * Without stored latents the state before the window is unknown: its first record is made
      an is_first, with no previous action. (Its reward stays: the reward head sees z_0.)

    Args:
        latents: windows carry prev_deter and prev_stoch, so their first record stays as it is.
    """

    def __init__(self, latents: bool = False) -> None:
        super().__init__()
        self.latents = latents

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Correct records [B, T] in place; `sample` has gathered them freshly."""
        is_first = tensordict[keys.IS_FIRST]
        tensordict[keys.IS_LAST][:, :-1] |= is_first[:, 1:]
        if not self.latents:
            is_first[:, 0] = True
            tensordict[keys.PREV_ACTION][:, 0] = 0
        return tensordict
