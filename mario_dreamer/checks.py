"""Checks of public entry points: keys, shapes, types and devices of tensors; optional packages.

Without them a wrong shape may broadcast, a wrong type be cast, another device fail far below.
Values are never read, so a check costs microseconds and never waits for a GPU.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable, Mapping
from types import ModuleType

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn

from mario_dreamer.precision import active_dtype

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
KINDS = {
    "float": FLOATS,
    "number": (*FLOATS, *WHOLE),
    "one-hot": (*FLOATS, *WHOLE, torch.bool),
    "flag": (torch.bool,),
    "index": (torch.int64,),
}


def show(value: object) -> str:
    """Describe a value for a message: shape, type and device of a tensor, else its class."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    layout = "" if value.layout is torch.strided else f"{value.layout} "
    return f"{layout}{list(value.shape)} {_name(value.dtype)} on {value.device}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def check(
    who: str,
    place: nn.Module | torch.device | None,
    sizes: Mapping[str, int],
    fields: Mapping[NestedKey, tuple[object, str]],
) -> None:
    """Refuse tensors of another shape, type or device than is asked for.

        check("RSSM.feat", self, {"D": 16}, {"deter": (deter, "... D: float")})

    A shape is a list of sizes: a number, a name out of `sizes`, or any other name, which has to
    mean the same number (at least 1) wherever it stands, also as `H+1`. A `...` in front means
    any dimensions, none of them 0, the same ones in every field; a `*` at the end any, also of 0.

    Args:
        place: where the tensors have to be: the device of a module's weights, a device, or None
            for one and the same, and not meta.
        fields: name -> the tensor, and "shape: kind". The kind is one of `KINDS`, "weight" for
            what the module's weights can be multiplied with, or "frame": uint8 or "weight".

    Raises:
        TypeError: not a tensor. ValueError: what was expected, and what came.
    """
    if _being_traced():  # a graph is built once, from input that has passed before
        return
    weight = next(place.parameters(), None) if isinstance(place, nn.Module) else None
    device = weight.device if weight is not None else place
    bound: dict[str, int | torch.Size] = dict(sizes)
    for name, (value, wanted) in fields.items():
        lead, shape, rest, kind = _parsed(wanted)
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{who}: {name} must be a tensor {_wish(wanted, bound)}; got {show(value)}."
            )
        if device is None or isinstance(device, nn.Module):
            device = value.device if value.device.type != "meta" else torch.device("cpu")
        good = value.layout is torch.strided and _fits(value.shape, lead, shape, rest, bound)
        if not good or value.device != device or value.dtype not in _dtypes(kind, weight, device):
            dtypes = ", ".join(_name(dtype) for dtype in _dtypes(kind, weight, device))
            empty = "" if value.numel() else ", which is empty"
            raise ValueError(
                f"{who}: {name} must be {_wish(wanted, bound)} ({dtypes}) on {device}; "
                f"got {show(value)}{empty}."
            )


def _being_traced() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def has_functorch() -> bool:
    """Whether `torch.func.vmap` or another of its transforms is at work.

    An `autograd.Function` that it could transform costs 70 microseconds a call more.
    """
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


@functools.lru_cache(4096)
def _parsed(wanted: str) -> tuple[bool, tuple[str, ...], bool, str]:
    """ "... D: float" -> is there any number of dimensions in front, the sizes, or behind; kind."""
    shape, _, kind = wanted.partition(":")
    words = shape.split()
    lead, rest = words[:1] == ["..."], words[-1:] == ["*"]
    return lead, tuple(words[lead : len(words) - rest]), rest, kind.strip()


def _fits(shape: torch.Size, lead: bool, wanted: tuple[str, ...], rest: bool, bound: dict) -> bool:
    """Compare sizes; note what names mean that are met for the first time."""
    count = len(wanted)
    if len(shape) < count or (len(shape) > count and not lead and not rest):
        return False
    if lead:
        front = shape[: len(shape) - count]
        if not all(front) or bound.setdefault("...", front) != front:
            return False
        shape = shape[len(shape) - count :]
    for size, word in zip(shape, wanted, strict=False):
        name, _, more = word.partition("+")
        size = size - int(more or 0)
        target = int(name) if name.isdecimal() else bound.setdefault(name, max(size, 1))
        if size != target:
            return False
    return True


def _dtypes(kind: str, weight: Tensor | None, device: torch.device) -> tuple[torch.dtype, ...]:
    """The types that are taken; under autocast the short floats count as weights do."""
    if kind in KINDS:
        return KINDS[kind]
    own: tuple[torch.dtype, ...] = (torch.float32 if weight is None else weight.dtype,)
    if active_dtype(device) is not None:
        own = FLOATS[:3]
    return (torch.uint8, *own) if kind == "frame" else own


def _wish(wanted: str, bound: Mapping[str, object]) -> str:
    """A shape for people: names that have a meaning by now are spelled out."""
    words = wanted.partition(":")[0].split()
    spelled = []
    for word in words:
        name, _, more = word.partition("+")
        known = bound.get(name)
        if isinstance(known, torch.Size):
            spelled += [str(size) for size in known]
        elif known is not None:
            spelled.append(f"{word}={known + int(more or 0)}")
        else:
            spelled.append(word)
    return f"[{', '.join(spelled)}]"


def require_keys(
    who: str,
    tensordict: TensorDictBase,
    needed: Iterable[NestedKey],
    what: str = "input",
    cure: str = "add what is missing; set_keys(...) renames the keys that a loss reads",
) -> None:
    """Refuse a TensorDict that lacks keys.

    Args:
        what: what the TensorDict is, for the message.
        cure: what to do about it, for the message.

    Raises:
        TypeError: it is no TensorDict. KeyError: names what is missing and what is there.
    """
    if _being_traced():
        return
    if not isinstance(tensordict, TensorDictBase):
        raise TypeError(f"{who}: expected a TensorDict; got {show(tensordict)}.")
    there = set(tensordict.keys(include_nested=True))
    missing = [key for key in needed if key not in there]
    if missing:
        raise KeyError(
            f"{who}: the {what} lacks {missing}; it holds {sorted(map(str, there))}: {cure}."
        )


def require_head(who: str, head: nn.Module) -> None:
    """Refuse a module that a loss cannot ask for a distribution.

    Raises:
        TypeError: it has no `in_keys` or no `get_dist`.
    """
    if not (hasattr(head, "in_keys") and hasattr(head, "get_dist")):
        raise TypeError(
            f"{who}: a head needs in_keys and get_dist(tensordict), such as a DistributionModule "
            f"or TorchRL's ProbabilisticTensorDictSequential; got {show(head)}."
        )


def check_states(who: str, head: nn.Module, tensordict: TensorDictBase, batch: str) -> None:
    """Refuse states that a head cannot read.

    Args:
        head: with `in_keys`, and `sizes` where the width F of its input is fixed.
        batch: sizes of all dimensions but the last, such as "4 16" or "B T".

    Raises:
        ValueError: expected [batch, F], what came.
    """
    sizes = getattr(head, "sizes", {})
    width = "F" if "F" in sizes and len(head.in_keys) == 1 else "*"
    fields = {key: (tensordict.get(key), f"{batch} {width}: weight") for key in head.in_keys}
    check(who, head, sizes, fields)


def require_package(module: str, extra: str, option: str) -> ModuleType:
    """Import an optional package where it is asked for.

    Args:
        extra: of `pip install "mario_dreamer[extra]"`.
        option: what asks for it, for the message.

    Raises:
        ImportError: it is missing; one line with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{option} needs the package {module} ({error}). "
            f'Install it: pip install "mario_dreamer[{extra}]"'
        ) from error
