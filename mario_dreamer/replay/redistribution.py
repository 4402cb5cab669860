"""Deal the records of several replays to another number of replays."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from tensordict import TensorDict

from mario_dreamer import keys
from mario_dreamer.replay.buffer import Replay


def redistribute(
    states: Iterable[dict[str, Any]], count: int, replay: Replay, rank: int, size: int
) -> None:
    """Fill an empty replay with its share of the records that other replays held.

    Streams stay whole and in order where there are enough of them, else each is cut into as few
    equal stretches as are needed. Stretch k goes to ring k mod (size * rings of a replay); where
    a ring is full, its oldest records go. A stretch begins like an episode: what came before its
    first record is not there.

    Args:
        states: `Replay.state_dict` of the old replays, one after the other.
        replay: to be filled, built for the same env and agent.
        rank, size: which of how many new replays it is.
    """
    rings = replay.streams.num_streams
    number = 0
    for state in states:
        counts = state["streams"]
        lengths = [min(written, counts["rows"]) for written in counts["written"]]
        records = TensorDict(state["records"], [sum(lengths)])
        if replay.buffer.transform[0].classes is None:
            replay.buffer.transform[0].classes = state["classes"]
        stretches = math.ceil(size * rings / (count * len(lengths)))
        for stream in records.split(lengths):
            for part in torch.arange(len(stream)).tensor_split(stretches):
                ring = number % (size * rings)
                number += 1
                if len(part) and ring // rings == rank:
                    _append(replay, ring % rings, stream[part[0] : part[-1] + 1])
    replay.buffer.sampler.skip_fresh()


def _append(replay: Replay, ring: int, records: TensorDict) -> None:
    """Write records [M] at the end of a ring."""
    records = records.clone()
    records[keys.STREAM] = torch.full_like(records[keys.STREAM], ring)
    records[keys.IS_FIRST][0] = True
    for key in (keys.PREV_ACTION, keys.REWARD, keys.IS_LAST, keys.IS_TERMINAL, keys.PREV_DETER,
                keys.PREV_STOCH):  # fmt: skip
        if key in records:
            records[key][0] = 0
    replay.buffer.writer.extend(records.to(replay.streams.device))
