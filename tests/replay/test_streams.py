"""streams, writer, windows: where a record goes and which flags are mended."""

from __future__ import annotations

import pytest
import torch
from replay_checks import Counter
from tensordict import TensorDict

from mario_dreamer.replay import RecordStorage, Streams, StreamWriter, ToWindows, make_replay


def records(stream: list[int], value: list[int]) -> TensorDict:
    return TensorDict({"stream": torch.tensor(stream), "x": torch.tensor(value)}, [len(stream)])


def written(capacity: int, num_streams: int, *batches: TensorDict) -> tuple[Streams, list[int]]:
    streams = Streams(capacity, num_streams)
    storage, writer = RecordStorage(streams), StreamWriter(streams)
    writer.register_storage(storage)
    for batch in batches:
        writer.extend(batch)
    return streams, storage.column("x").tolist()


def test_mixed_streams_go_to_their_own_rings_in_order():
    streams, x = written(6, 2, records([1, 0, 1, 0, 0], [10, 20, 11, 21, 22]))
    assert x[:5] == [20, 21, 22, 10, 11]
    assert streams.written == [3, 2] and len(streams) == 5


def test_a_ring_wraps_into_itself_only():
    streams, x = written(6, 2, records([0, 1, 1, 1, 1], [9, 1, 2, 3, 4]))
    assert x[0] == 9 and x[3:] == [4, 2, 3]
    assert (streams.oldest(1), streams.filled(1)) == (1, 3)
    assert streams.filled_rows().tolist() == [0, 4, 5, 3]


def test_of_more_records_than_a_ring_holds_the_last_stay():
    _, x = written(3, 1, records([0] * 8, list(range(8))))
    assert x == [6, 7, 5]


def test_position_at_is_the_inverse_of_row_of():
    streams, _ = written(8, 2, records([0, 0, 1, 1, 1, 1, 1, 1], list(range(8))))
    row = streams.filled_rows()
    assert streams.position_at(row).tolist() == [0, 1, 2, 3, 4, 5]
    assert streams.row_of(row // 4, streams.position_at(row)).equal(row)
    assert (streams.position_at(torch.tensor([2, 3])) < 0).all()  # never written


def test_a_record_of_a_stream_too_many_is_refused():
    with pytest.raises(ValueError, match="stream 2"):
        written(6, 2, records([0, 2], [0, 0]))


def test_capacity_is_shared_equally_and_rounded_down():
    streams = Streams(11, 3)
    assert (streams.rows, streams.capacity) == (3, 9)


def window() -> TensorDict:
    flag = torch.zeros(1, 4, 1, dtype=torch.bool)
    is_first = flag.clone()
    is_first[0, 2] = True
    action = torch.ones(1, 4, 2)
    return TensorDict({"is_first": is_first, "is_last": flag, "prev_action": action}, [1, 4])


def test_a_record_before_an_opening_frame_is_last():
    mended = ToWindows(latents=True)(window())
    assert mended["is_last"].flatten().tolist() == [False, True, False, False]
    assert mended["is_first"].flatten().tolist() == [False, False, True, False]
    assert mended["prev_action"].all()


def test_without_a_stored_state_a_window_opens_like_an_episode():
    mended = ToWindows(latents=False)(window())
    assert mended["is_first"].flatten().tolist() == [True, False, True, False]
    assert mended["prev_action"][0, :, 0].tolist() == [0, 1, 1, 1]


def test_transitions_of_some_streams_land_in_these_streams() -> None:
    counter = Counter([3, 4, 5])
    replay = make_replay(capacity=60, num_streams=3, batch_size=1, batch_length=2)
    played = counter.play(4)
    stream = torch.arange(3)[:, None].expand(3, 4)
    replay.extend(played[1:].clone().set("stream", stream[1:]))
    assert replay.streams.written == [0, 5, 5]
    replay.extend(played[:1].clone().set("stream", stream[:1]))
    assert replay.streams.written == [6, 5, 5], "an episode of three has ended in it"
    for number in range(3):
        assert replay.newest(number, 9)["vector"][:, 0].unique().tolist() == [number]
