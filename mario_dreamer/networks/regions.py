"""Regions: short pieces of the networks, run many times an update, that a compiler may fuse."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch

_compiled: ContextVar[bool] = ContextVar("compiled", default=False)


def region(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function that may be compiled as one piece; as it stands, it runs as written.

    A step of the RSSM is some forty small operators, and an update takes a step for every record
    and for every imagined one. A whole update unrolls them all and compiles for ten minutes; a
    region compiles once, within seconds, and is called as often.

    Args:
        function: tensors in, tensors out; no wait for a number, shapes that seldom change. A
            region that calls another one is compiled with it.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or not _compiled.get():
            return function(*args, **kwargs)
        return _compile(function)(*args, **kwargs)

    return call


@contextlib.contextmanager
def compiled_regions() -> Iterator[None]:
    """Within it, in this thread, regions run compiled; acting and evaluation go on as written."""
    token = _compiled.set(True)
    try:
        yield
    finally:
        _compiled.reset(token)


@functools.cache
def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    # One region serves several modules, with and without gradients: more variants than usual.
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    warnings.filterwarnings("ignore", message="Guards may run slower on Python 3.13.0")
    # Random numbers as without the compiler, so that the numbers of a run stay comparable.
    return torch.compile(function, dynamic=False, options={"fallback_random": True})
