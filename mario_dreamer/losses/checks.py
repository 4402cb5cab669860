"""Input checks of the losses: the keys that they read, and the states that their heads read."""

from __future__ import annotations

from collections.abc import Sequence

from tensordict import NestedKey, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import nn

from mario_dreamer.checks import check

__all__ = ["check_states", "require"]


def require(
    loss: TensorDictModuleBase,
    tensordict: TensorDictBase,
    where: str = "input",
    needed: Sequence[NestedKey] | None = None,
) -> None:
    """Refuse a TensorDict that lacks keys which `loss` reads.

    Args:
        loss: a loss with `in_keys`.
        tensordict: what it was given, any batch size.
        where: what the tensordict is, for the message.
        needed: the keys it reads there; None for its `in_keys`.

    Raises:
        KeyError: names the loss, the missing keys, the keys at hand and the cure.
    """
    at_hand = set(tensordict.keys(include_nested=True))
    missing = [key for key in (loss.in_keys if needed is None else needed) if key not in at_hand]
    if missing:
        raise KeyError(
            f"{type(loss).__name__}: the {where} lacks {missing}; it holds "
            f"{sorted(map(str, at_hand))}. Rename keys with set_keys(...), or store what is missing."
        )


def check_states(
    loss: TensorDictModuleBase,
    head: nn.Module,
    tensordict: TensorDictBase,
    batch: str,
) -> None:
    """Refuse states that a head cannot read.

    Args:
        loss: for the message.
        head: with `in_keys`, and `sizes` where it knows the width F of what it reads.
        tensordict: holds the states.
        batch: sizes of all dimensions but the last, such as "4 16" or "B T".

    Raises:
        ValueError: expected [batch, F], what came.
    """
    sizes = getattr(head, "sizes", {})
    width = "F" if "F" in sizes and len(head.in_keys) == 1 else "*"
    fields = {key: (tensordict.get(key), f"{batch} {width}: weight") for key in head.in_keys}
    check(type(loss).__name__, head, sizes, fields)
