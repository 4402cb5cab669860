"""Branches: parts of an update that a GPU computes beside each other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch


@dataclass
class Branches:
    """Streams by the name of their branch, and the places that `mark` noted."""

    streams: dict[str, torch.cuda.Stream] = field(default_factory=dict)
    marks: dict[str, torch.cuda.Event] = field(default_factory=dict)


# Where None, everything is computed in a row.
_branches: ContextVar[Branches | None] = ContextVar("branches", default=None)


@contextlib.contextmanager
def branching(branches: Branches) -> Iterator[None]:
    """Within it, in this thread, what stands in `beside` has a stream of its own.

    Args:
        branches: keep them for the next time.
    """
    branches.marks.clear()
    token = _branches.set(branches)
    try:
        yield
    finally:
        _branches.reset(token)


def mark(name: str) -> None:
    """Note this place: a branch that needs what is there now, and no more, begins `since` it."""
    if (branches := _branches.get()) is not None:
        branches.marks[name] = torch.cuda.Event()
        branches.marks[name].record()


@contextlib.contextmanager
def beside(name: str, since: str | None = None) -> Iterator[None]:
    """Compute this beside what follows, until `join`.

    The backward pass of what is computed here runs beside the rest, too. A tensor that is made
    on one branch and read on another has to live until they are joined.

    Args:
        name: of the branch; the same name again goes on with it.
        since: it waits for what was before this mark, where there is one; None: for all before.
    """
    branches = _branches.get()
    if branches is None:
        yield
        return
    if name not in branches.streams:
        branches.streams[name] = torch.cuda.Stream()
    stream, place = branches.streams[name], branches.marks.get(since)
    if place is None:
        stream.wait_stream(torch.cuda.current_stream())
    else:
        stream.wait_event(place)
    with torch.cuda.stream(stream):
        yield


def join(*names: str) -> None:
    """Let what follows wait for these branches."""
    if (branches := _branches.get()) is not None:
        for name in names:
            torch.cuda.current_stream().wait_stream(branches.streams[name])
