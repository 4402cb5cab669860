"""sampler: which windows are drawn, and how often."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_checks import Counter, check_windows

from mario_dreamer.replay import make_replay


def test_every_start_position_of_every_stream_is_equally_likely(counter):
    replay = make_replay(40, 2, batch_size=1000, batch_length=4, online=False)
    env = counter([3, 100])
    for _ in range(3):
        replay.extend(env.play(9))  # 36 and 28 records: both rings are full
    starts = torch.cat([replay.sample()["index"][:, 0] for _ in range(17)])
    counts = starts.bincount(minlength=40)
    seen = counts[counts > 0]
    assert len(seen) == 2 * (20 - 4 + 1)  # 34 windows, 500 draws expected of each
    chi_square = ((seen - 500.0) ** 2 / 500.0).sum()
    assert chi_square < 63.9  # 33 degrees of freedom, p = 0.001


def test_a_longer_stream_is_drawn_more_often_than_a_short_one(counter):
    replay = make_replay(60, 2, batch_size=2000, batch_length=4, online=False)
    replay.extend(counter([1, 100]).play(12))  # 24 and 13 records: 21 and 10 windows
    share = replay.sample()["stream"][:, 0].float().mean()
    assert abs(share - 10 / 31) < 0.04


def test_windows_cross_the_end_of_an_episode(counter):
    replay = make_replay(100, 1, batch_size=64, batch_length=8, online=False)
    replay.extend(counter([11]).play(50))
    assert replay.sample()["is_first"][:, 1:].any(1).float().mean() > 0.3


def test_terminals_and_short_episodes_are_sampled(counter):
    replay = make_replay(100, 1, batch_size=64, batch_length=16, online=False)
    replay.extend(counter([3]).play(40))
    batch = replay.sample()
    check_windows(batch, [3])
    assert batch["is_terminal"].float().mean() > 0.2  # one record of four


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    rows=st.integers(4, 20),
    online=st.booleans(),
)
def test_any_history_gives_true_windows(sizes, lengths, rows, online):
    replay = make_replay(rows * len(lengths), len(lengths), 8, 4, online, latents=True)
    env = Counter(lengths)
    for steps in sizes:
        replay.extend(env.play(steps))
        assert len(replay) == sum(
            min(p + (t > 0), rows) for p, t in zip(env.position, env.time, strict=True)
        )
        if replay.streams.num_starts(4):
            check_windows(replay.sample(), lengths)


def test_a_fresh_window_is_served_once_and_before_any_other(counter):
    replay = make_replay(400, 2, batch_size=3, batch_length=4, online=True)
    env = counter([1000, 1000])
    replay.extend(env.play(7))  # 8 records each: two windows each
    served = [replay.sample() for _ in range(2)]
    fresh = torch.cat(served)[:4]
    starts = {(int(w["stream"][0]), int(w["step_id"][0])) for w in fresh}
    assert starts == {(0, 0), (0, 4), (1, 0), (1, 4)}
    assert replay.buffer.sampler.state_dict()["fresh"] == [8, 8]
    replay.extend(env.play(3))  # three more records: no new window yet
    assert replay.buffer.sampler.state_dict()["fresh"] == [8, 8]
    replay.sample()
    assert replay.buffer.sampler.state_dict()["fresh"] == [8, 8]
    replay.extend(env.play(1))
    batch = replay.sample()
    assert batch["step_id"][:2, 0].tolist() == [8, 8]
    assert batch["stream"][:2, 0].tolist() == [0, 1]


def test_a_fresh_window_that_was_overwritten_is_not_served(counter):
    replay = make_replay(10, 1, batch_size=4, batch_length=4, online=True)
    replay.extend(counter([1000]).play(30))
    batch = replay.sample()
    check_windows(batch, [1000])
    assert batch["step_id"][0, 0] == 24 and batch["step_id"].min() >= 21


def test_without_online_the_first_draw_is_already_uniform(counter):
    replay = make_replay(100, 1, batch_size=50, batch_length=4, online=False)
    replay.extend(counter([1000]).play(80))
    assert len(replay.sample()["step_id"][:, 0].unique()) > 20


def test_a_window_longer_than_the_data_says_so(counter):
    replay = make_replay(100, 2, batch_size=2, batch_length=8)
    with pytest.raises(ValueError, match="batch_length=8"):
        replay.sample()
    replay.extend(counter([50, 50]).play(6))  # 7 records each
    with pytest.raises(ValueError, match=r"\[7, 7\]"):
        replay.sample()
    replay.extend(counter([50, 50]).play(1))
    replay.sample()


def test_a_window_longer_than_a_ring_is_refused_at_once():
    with pytest.raises(ValueError, match="batch_length=64"):
        make_replay(100, 2, batch_length=64)
