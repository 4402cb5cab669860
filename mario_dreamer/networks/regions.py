"""Regions: short pieces of the networks, run many times an update, that a compiler may fuse."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mario_dreamer.networks.branches import branch
from mario_dreamer.precision import active_dtype

# Within `compiled_regions`: the weights rounded so far, by id, whether they carry a gradient, and
# the branch that waits for them.
_rounded: ContextVar[dict[tuple[int, bool, str], Tensor] | None] = ContextVar("rounded", default=None)


def region(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a method or function that may be compiled as one piece; as it stands, it runs as written.

    A step of the RSSM is some forty small operators, and an update takes a step for every record
    and for every imagined one. A whole update unrolls them all and compiles for ten minutes; a
    region compiles once, within seconds, and is called as often.

    Args:
        function: method of a module, or a function; tensors in, tensors out; no wait for a
            number, shapes that seldom change. A region that calls another one is compiled with it.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or not are_compiled():
            return function(*args, **kwargs)
        modules = [x for x in args[:1] if isinstance(x, nn.Module)]
        with _rounded_weights(modules):
            return _compile(function)(*args, **kwargs)

    return call


@contextlib.contextmanager
def compiled_regions() -> Iterator[None]:
    """Within it, in this thread, regions run compiled; acting and evaluation go on as written."""
    token = _rounded.set({})
    try:
        yield
    finally:
        _rounded.reset(token)


def are_compiled() -> bool:
    """Whether this is within `compiled_regions`."""
    return _rounded.get() is not None


@contextlib.contextmanager
def _rounded_weights(modules: list[nn.Module]) -> Iterator[None]:
    """Under autocast: round the weights of linear layers once an update, and not at every call.

    Autocast keeps what it has rounded, but a compiler rounds all weights in every step.
    """
    kept, replaced = _rounded.get(), []
    for layer in (part for module in modules for part in module.modules()):
        names = ("weight", "bias") if isinstance(layer, nn.Linear) else ()
        for name in getattr(layer, "rounded", names):
            weight = getattr(layer, name)
            if weight is None or (dtype := active_dtype(weight.device)) is None:
                continue
            key = id(weight), weight.requires_grad and torch.is_grad_enabled(), branch()
            if key not in kept:
                kept[key] = weight.to(dtype)
                if getattr(layer, "takes_padding", False):
                    kept[key] = padded(kept[key])
            layer._parameters[name] = kept[key]
            replaced.append((layer, name, weight))
    try:
        yield
    finally:
        for layer, name, weight in replaced:
            layer._parameters[name] = weight


def padded(weight: Tensor) -> Tensor:
    """Zeros behind each side of a weight or bias: a multiple of 8, as tensor cores want it."""
    missing = [-size % 8 for size in weight.shape]
    if not any(missing):
        return weight
    return F.pad(weight, [size for side in reversed(missing) for size in (0, side)])


@functools.cache
def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    # One region serves several modules, with and without gradients: more variants than usual.
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    warnings.filterwarnings("ignore", message="Guards may run slower on Python 3.13.0")
    # Random numbers as without the compiler, so that the numbers of a run stay comparable.
    return torch.compile(function, dynamic=False, options={"fallback_random": True})
