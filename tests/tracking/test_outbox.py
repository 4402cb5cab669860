"""The outbox delivers in order, outlives a failing writer, and knows when to give up."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from mario_dreamer.tracking.append_only import read_rows
from mario_dreamer.tracking.outbox import Entry, Outbox, Refused


class Server:
    """A writer that can be down, and refuses the number 13."""

    def __init__(self, up: bool = True) -> None:
        self.up = up
        self.got: list[Entry] = []
        self.calls: list[int] = []

    def write(self, entries: list[Entry]) -> None:
        if not self.up:
            raise ConnectionError("nobody there")
        if any(entry["n"] == 13 for entry in entries):
            raise Refused("unlucky")
        self.calls.append(len(entries))
        self.got.extend(entries)


def _entry(number: int, kind: str = "metrics") -> Entry:
    return {"kind": kind, "n": number}


def _dead_server(folder: Path) -> tuple[Server, Outbox]:
    """A server that is down, and the outbox that holds two entries for it."""
    server = Server(up=False)
    outbox = Outbox(server.write, folder / "spool", "test", every=0.01)
    outbox.put(_entry(0), now=True)
    assert outbox.tried.wait(10)
    outbox.put(_entry(1))
    return server, outbox


def test_entries_arrive_in_order_in_groups_of_one_kind(tmp_path: Path) -> None:
    server = Server()
    outbox = Outbox(server.write, tmp_path / "spool", "test", every=60, group=2)
    kinds = ["metrics", "metrics", "metrics", "tags", "metrics"]
    for number, kind in enumerate(kinds):
        outbox.put(_entry(number, kind))
    assert outbox.close(10)
    assert [entry["n"] for entry in server.got] == [0, 1, 2, 3, 4]
    assert server.calls == [2, 1, 1, 1]
    assert not (tmp_path / "spool").exists()


def test_what_a_dead_server_missed_is_delivered_by_the_next_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, outbox = _dead_server(tmp_path)
    assert not outbox.close(10)
    lines = [json.loads(line) for line in (tmp_path / "spool").read_text().split("\n") if line]
    assert lines == [_entry(0), _entry(1)]
    assert sum("nobody there" in record.message for record in caplog.records) == 1
    assert "test: 2 entries could not be delivered" in caplog.text

    server.up = True
    later = Outbox(server.write, tmp_path / "spool", "test", every=60)
    later.put(_entry(2))
    assert later.close(10)
    assert [entry["n"] for entry in server.got] == [0, 1, 2]
    assert not (tmp_path / "spool").exists()


def test_a_server_that_comes_back_gets_everything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, outbox = _dead_server(tmp_path)
    server.up = True
    assert outbox.close(10)
    assert [entry["n"] for entry in server.got] == [0, 1]
    assert "can be written to again" in caplog.text


def test_a_refused_entry_does_not_block_those_behind_it(tmp_path: Path) -> None:
    server = Server()
    outbox = Outbox(server.write, tmp_path / "spool", "test", every=60, group=1)
    for number in (12, 13, 14):
        outbox.put(_entry(number))
    assert outbox.close(10)
    assert [entry["n"] for entry in server.got] == [12, 14]


def test_beyond_the_capacity_the_oldest_metrics_go_first(tmp_path: Path) -> None:
    server = Server(up=False)
    outbox = Outbox(server.write, tmp_path / "spool", "test", every=60, capacity=3)
    outbox.put(_entry(0, "params"), now=True)
    assert outbox.tried.wait(10)
    for number in range(1, 6):
        outbox.put(_entry(number))
    assert outbox.dropped == 3
    server.up = True
    assert outbox.close(10)
    assert [entry["n"] for entry in server.got] == [0, 4, 5]


def test_an_entry_put_while_others_are_written_is_not_lost(tmp_path: Path) -> None:
    got: list[int] = []
    inside, go_on = threading.Event(), threading.Event()

    def slow(entries: list[Entry]) -> None:
        inside.set()
        assert go_on.wait(10)
        got.extend(entry["n"] for entry in entries)

    outbox = Outbox(slow, tmp_path / "spool", "test", every=60, capacity=2)
    outbox.put(_entry(0), now=True)
    assert inside.wait(10)
    outbox.put(_entry(1))
    outbox.put(_entry(2))  # drops entry 0, which is being written
    go_on.set()
    assert outbox.close(10)
    assert got == [0, 1, 2]


def test_half_a_spooled_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text(json.dumps(_entry(0)) + '\n{"kind": "met')
    server = Server()
    assert Outbox(server.write, tmp_path / "spool", "test", every=60).close(10)
    assert server.got == [{**_entry(0), "late": True}]


def test_what_is_kept_outlives_a_kill_before_its_delivery(tmp_path: Path) -> None:
    server = Server()
    killed = Outbox(server.write, tmp_path / "spool", "test", every=60)
    killed.tried.wait(0.2)
    killed.put(_entry(0))
    killed.keep()
    killed.put(_entry(1))  # shown after the checkpoint: a resume tells it again
    later = Outbox(server.write, tmp_path / "spool", "test", every=60)
    assert later.close(10)
    assert [entry["n"] for entry in server.got] == [0]
    assert killed.close(10)


def test_keeping_looks_at_new_entries_only(tmp_path: Path) -> None:
    class Counted(deque):
        seen = 0

        def __iter__(self) -> Iterator[Entry]:
            for entry in super().__iter__():
                Counted.seen += 1
                yield entry

    server = Server(up=False)
    outbox = Outbox(server.write, tmp_path / "spool", "test", every=60)
    outbox.put(_entry(0), now=True)
    assert outbox.tried.wait(10)
    outbox._queue = Counted(outbox._queue)
    for number in range(1, 100):
        outbox.put(_entry(number))
        outbox.keep()
    assert Counted.seen == 0, "what waits for hours is not copied at each metric"
    assert [row["n"] for row in read_rows(tmp_path / "spool")] == list(range(100))
    server.up = True
    assert outbox.close(10)


def test_keeping_while_others_are_delivered_loses_nothing(tmp_path: Path) -> None:
    server = Server()
    outbox = Outbox(server.write, tmp_path / "spool", "test", every=0.0001)
    for number in range(100, 400):
        outbox.put(_entry(number), now=True)
        outbox.keep()
    assert outbox.close(10)
    assert [entry["n"] for entry in server.got] == list(range(100, 400))
    assert not (tmp_path / "spool").exists()


def test_a_writer_that_is_busy_at_the_end_is_waited_for(tmp_path: Path) -> None:
    got: list[int] = []
    busy = iter([True, True])

    def write(entries: list[Entry]) -> None:
        if next(busy, False):
            raise OSError("database is locked")
        got.extend(entry["n"] for entry in entries)

    outbox = Outbox(write, tmp_path / "spool", "test", every=60)
    outbox.tried.wait(0.1)
    outbox.put(_entry(7))
    assert outbox.close(10)
    assert got == [7] and not (tmp_path / "spool").exists()
