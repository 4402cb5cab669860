"""The type that a run computes in: which one, where it is on, and how it is switched on."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn


def autocast_dtype(precision: str | int, device: torch.device) -> torch.dtype | None:
    """Turn the run's `precision` into a compute type; None means plain float32.

    Args:
        precision: "auto" (bfloat16 where the hardware multiplies it natively), "bf16", or
            "fp32"; the seed's 16 and 32 mean bf16 and fp32.

    Raises:
        ValueError: for any other word.
    """
    words = {"bf16": torch.bfloat16, "16": torch.bfloat16, "fp32": None, "32": None}
    word = str(precision)
    if word == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
        if device.type == "mps":
            return None
        flags = torch.backends.cpu.get_cpu_capability()
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if native and "AVX512" in flags else None
    if word not in words:
        raise ValueError(f"precision={precision!r}: expected auto, bf16 (16) or fp32 (32).")
    return words[word]


def autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager:
    """Compute in `dtype` where that is safe; None changes nothing.

    Every phase of an update opens a context of its own: autocast keeps the casts of weights
    until its context ends, and a cast made without gradient must not serve where one is needed.
    """
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)


def active_dtype(device: torch.device) -> torch.dtype | None:
    """The type that autocast computes in on a device; None where it is off."""
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)


def wide_dtype(module: nn.Module) -> torch.dtype:
    """The type of a world model's states and inputs: float64 where its weights are, else float32.

    Raises:
        ValueError: shorter weights, outside autocast.
    """
    weight = next(module.parameters(), None)
    if weight is None or weight.dtype in (torch.float32, torch.float64):
        return torch.float32 if weight is None else weight.dtype
    if active_dtype(weight.device) is None:
        raise ValueError(
            f"{type(module).__name__}: its weights are {weight.dtype}, its states would be rounded at "
            "each step. Keep float32 weights, and compute within torch.autocast."
        )
    return torch.float32


def widened(x: Tensor) -> Tensor:
    """x in float32; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()
