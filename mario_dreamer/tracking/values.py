"""Convert what is logged: nested configurations to text, tensors to numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Turn a nested configuration into `a.b.0.c` -> text.

    >>> flatten({"replay": {"size": 10}, "shape": [4, 8]})
    {'replay.size': '10', 'shape': '[4, 8]'}
    """
    flat: dict[str, str] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        elif isinstance(value, Sequence) and any(isinstance(item, Mapping) for item in value):
            flat.update(flatten({str(i): item for i, item in enumerate(value)}, f"{name}."))
        else:
            flat[name] = str(value)
    return flat


def numbers(
    values: Mapping[str, float | Tensor] | TensorDictBase, separator: str = "/"
) -> dict[str, float]:
    """Convert numbers and 0-dim tensors to Python floats, with one transfer per device.

    Args:
        values: name -> number or tensor of one element; a TensorDict may be nested.
        separator: between the keys of a nested TensorDict.

    Raises:
        ValueError: for a tensor of more than one element.
    """
    if isinstance(values, TensorDictBase):
        values = values.flatten_keys(separator).to_dict()
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    for name, value in tensors.items():
        if value.numel() != 1:
            raise ValueError(
                f"metric {name!r}: got a tensor of shape {tuple(value.shape)}, expected one "
                "number. Take its mean before it is logged."
            )
    fetched: dict[str, float] = {}
    for device in {value.device for value in tensors.values()}:
        names = [name for name, value in tensors.items() if value.device == device]
        dtype = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPU has no double
        stacked = torch.stack([tensors[name].detach().to(dtype).reshape(()) for name in names])
        fetched.update(zip(names, stacked.tolist(), strict=True))
    return {name: float(fetched.get(name, value)) for name, value in values.items()}
