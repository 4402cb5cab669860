"""One check at the border of every loss: are the keys there that it reads?"""

from __future__ import annotations

from collections.abc import Sequence

from tensordict import NestedKey, TensorDictBase
from tensordict.nn import TensorDictModuleBase

__all__ = ["require"]


def require(
    loss: TensorDictModuleBase,
    tensordict: TensorDictBase,
    where: str = "input",
    needed: Sequence[NestedKey] | None = None,
) -> None:
    """Say clearly which of the keys that `loss` reads are missing.

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
