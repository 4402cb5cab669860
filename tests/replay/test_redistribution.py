from __future__ import annotations

import pytest
import torch

from mario_dreamer.replay import Replay, make_replay
from mario_dreamer.replay.redistribution import redistribute


def empty(capacity: int = 200) -> Replay:
    return make_replay(capacity, 2, 4, 5, latents=True)


def filled(counter, lengths: list[int], steps: int) -> Replay:
    replay = empty()
    replay.extend(counter(lengths).play(steps))
    return replay


def frames(replay: Replay) -> list[list[float]]:
    """The p of the counter's frames of each stream, old to new."""
    streams = range(replay.streams.num_streams)
    kept = [replay.newest(s, 1000) if replay.streams.filled(s) else None for s in streams]
    return [[] if one is None else one["vector"][:, 1].tolist() for one in kept]


def test_two_replays_put_into_one_keep_every_record(counter) -> None:
    old = [filled(counter, [6, 9], 20), filled(counter, [7, 30], 20)]
    new = empty()
    redistribute((replay.state_dict() for replay in old), 2, new, rank=0, size=1)
    assert len(new) == sum(map(len, old))
    one, other = map(frames, old)
    assert frames(new) == [one[0] + other[0], one[1] + other[1]]
    joint = new.newest(0, 1000)[len(one[0])]
    assert bool(joint["is_first"]) and not joint["prev_deter"].any()
    new.sample()


def test_one_replay_split_in_two_is_cut_in_order(counter) -> None:
    old = filled(counter, [50, 50], 40)
    new = [empty(), empty()]
    for rank in (0, 1):
        redistribute([old.state_dict()], 1, new[rank], rank, size=2)
    halves = [stream for replay in new for stream in frames(replay)]
    whole = frames(old)
    assert sorted(halves) == sorted(
        part.tolist() for s in whole for part in torch.tensor(s).tensor_split(2)
    )


def test_more_rings_than_streams_keep_every_record(counter) -> None:
    old = filled(counter, [50, 50], 40)
    new = make_replay(200, 4, 4, 5, latents=True)
    redistribute([old.state_dict()], 1, new, rank=0, size=1)
    assert len(new) == len(old) and all(20 <= len(x) <= 21 for x in frames(new))
    for ring in (1, 3):  # the second half of a stream, from the middle of an episode
        first = new.newest(ring, 1000)[0]
        assert bool(first["is_first"]) and not first["prev_deter"].any()


def test_a_full_ring_keeps_the_newest(counter) -> None:
    old = [filled(counter, [50, 50], 40), filled(counter, [50, 50], 40)]
    new = empty(capacity=60)
    redistribute((replay.state_dict() for replay in old), 2, new, rank=0, size=1)
    assert len(new) == 60
    assert frames(new)[0] == frames(old[1])[0][-30:]


def test_redistributed_records_are_not_served_as_fresh(counter) -> None:
    new = empty()
    redistribute([filled(counter, [50, 50], 40).state_dict()], 1, new, rank=0, size=1)
    assert new.buffer.sampler.state_dict()["fresh"] == new.streams.written
    with pytest.raises(ValueError, match="no stream holds"):
        empty().sample()
