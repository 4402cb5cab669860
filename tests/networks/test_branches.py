"""What runs on a side stream waits for what it reads, and is waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch
from tiny import make_tiny, random_records

from mario_dreamer.networks.branches import Branches, branch, branching, join, mark, side_stream


class Stream:
    """Notes who waits for whom, or for which event."""

    waits: list[tuple[str, str]] = []
    current: Stream

    def __init__(self, name: str, priority: int = 0) -> None:
        self.name, self.priority = name, priority

    def wait_stream(self, other: Stream) -> None:
        self.waits.append((self.name, other.name))

    def wait_event(self, event: Event) -> None:
        self.waits.append((self.name, f"event on {event.stream.name}"))


class Event:
    def record(self) -> None:
        self.stream = Stream.current


@pytest.fixture
def branches(monkeypatch: pytest.MonkeyPatch) -> Branches:
    """A GPU's streams; the first one is "main"."""

    @contextlib.contextmanager
    def on(stream: Stream) -> Iterator[None]:
        before, Stream.current = Stream.current, stream
        try:
            yield
        finally:
            Stream.current = before

    found = Branches()
    monkeypatch.setattr(Stream, "waits", [])
    Stream.current = Stream("main")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream.current)
    monkeypatch.setattr(torch.cuda, "stream", on)
    numbered = lambda priority: Stream(f"branch {len(found.streams)}", priority)  # noqa: E731
    monkeypatch.setattr(torch.cuda, "Stream", numbered)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    return found


def test_without_branches_all_is_one_row() -> None:
    with side_stream("left"):
        there = torch.ones(1)
    join("left")
    assert there == 1


def test_a_branch_waits_for_what_was_before_and_join_for_the_branch(branches: Branches) -> None:
    with branching(branches):
        with side_stream("left", high_priority=True):
            assert Stream.current is branches.streams["left"]
            with side_stream("right"):
                assert Stream.current is branches.streams["right"]
        assert branches.streams["left"].priority < branches.streams["right"].priority
        assert Stream.current.name == "main"
        join("left", "right")
    left, right = "branch 0", "branch 1"
    joined = [("main", left), ("main", right)]
    assert Stream.waits == [(left, "main"), (right, left), *joined, *joined]  # and when all ends


def test_an_error_leaves_no_branch_alone(branches: Branches) -> None:
    with pytest.raises(RuntimeError, match="out of memory"), branching(branches):
        with side_stream("left", reads=[torch.ones(1)]):
            assert branch() == "left" and len(branches.kept) == 1
            raise RuntimeError("out of memory")
    assert Stream.waits == [("branch 0", "main"), ("main", "branch 0")]
    assert Stream.current.name == "main" and branch() == "" and not branches.kept
    Stream.waits.clear()
    with branching(branches):  # the next update does not wait for what it has not begun
        pass
    assert Stream.waits == []


def test_a_branch_begins_since_a_mark_of_this_update(branches: Branches) -> None:
    with branching(branches):
        mark("here")
        with side_stream("left", after="here"):
            pass
    with branching(branches), side_stream("left", after="here"):  # not marked this time
        pass
    began = [who for who in Stream.waits if who[0] != "main"]
    assert began == [("branch 0", "event on main"), ("branch 0", "main")]


def test_an_update_waits_for_all_its_branches(branches: Branches) -> None:
    learner = make_tiny().learner
    with branching(branches):
        learner.forward_backward(random_records())
    streams = {name: stream.name for name, stream in branches.streams.items()}
    assert set(streams) == {"imagination", "actor", "decoders"}
    assert (streams["imagination"], "event on main") in Stream.waits
    for stream in streams.values():
        last = max(i for i, (who, _) in enumerate(Stream.waits) if who == stream)
        assert ("main", stream) in Stream.waits[last:]
