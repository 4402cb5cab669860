"""Branches: parts of an update that a GPU computes at the same time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Branches:
    """Streams by the name of their branch, and what is known of the update at hand.

    Attributes:
        marks: the places that `mark` noted.
        begun: branches of this update.
        kept: tensors that live until it ends.
    """

    streams: dict[str, torch.cuda.Stream] = field(default_factory=dict)
    marks: dict[str, torch.cuda.Event] = field(default_factory=dict)
    begun: dict[str, None] = field(default_factory=dict)
    kept: list[Tensor] = field(default_factory=list)


# Where None, everything is computed in a row.
_branches: ContextVar[Branches | None] = ContextVar("branches", default=None)
_name: ContextVar[str] = ContextVar("name", default="")


@contextlib.contextmanager
def branching(branches: Branches) -> Iterator[None]:
    """Within it, in this thread, what stands in `side_stream` has a stream of its own.

    When it ends, also by an error, what follows waits for all branches: a CUDA graph cannot be
    recorded to the end otherwise, and the error would be lost.

    Args:
        branches: keep them for the next time.
    """
    token = _branches.set(branches)
    try:
        yield
    finally:
        _branches.reset(token)
        for name in branches.begun:
            with contextlib.suppress(RuntimeError):  # a recording that failed
                torch.cuda.current_stream().wait_stream(branches.streams[name])
        for of_this_update in (branches.marks, branches.begun, branches.kept):
            of_this_update.clear()


def branch() -> str:
    """The name of the branch that is computed here; "" outside of all."""
    return _name.get()


def mark(name: str) -> None:
    """Note this place: a branch that needs what is there now, and no more, begins `after` it.

    The same name again moves the mark.
    """
    if (branches := _branches.get()) is not None:
        branches.marks[name] = torch.cuda.Event()
        branches.marks[name].record()


@contextlib.contextmanager
def side_stream(
    name: str,
    after: str | None = None,
    reads: Iterable[Tensor] = (),
    high_priority: bool = False,
) -> Iterator[None]:
    """Compute this on a stream of its own, at the same time as what follows, until `join`.

    The backward pass of what is computed here runs on that stream, too. A tensor that is made
    on one branch and read on another has to live until they are joined.

    Args:
        name: of the branch; the same name again goes on with it.
        after: it waits for what was before this mark, where there is one; None: for all before.
        reads: tensors that live on until the update ends, as nobody else may keep them.
        high_priority: where the GPU can choose, these kernels go first: many small ones in a row,
            which would each wait for larger ones of other streams. It counts when a branch is
            first named.
    """
    branches = _branches.get()
    if branches is None:
        yield
        return
    if name not in branches.streams:
        branches.streams[name] = torch.cuda.Stream(priority=-2 if high_priority else 0)
    stream, place = branches.streams[name], branches.marks.get(after)
    branches.kept.extend(reads)
    branches.begun[name] = None
    if place is None:
        stream.wait_stream(torch.cuda.current_stream())
    else:
        stream.wait_event(place)
    token = _name.set(name)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        _name.reset(token)


def join(*names: str) -> None:
    """Let what follows wait for these branches."""
    if (branches := _branches.get()) is not None:
        for name in names:
            torch.cuda.current_stream().wait_stream(branches.streams[name])
