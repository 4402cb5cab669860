"""How the weights begin: the two schemes of DreamerV3's versions.

"fan_in"   std = outscale / sqrt(fan_in)           normal cut at 2 std, every layer     (Nature)
"fan_avg"  std = 1 / sqrt((fan_in + fan_out) / 2)  normal cut at 2 std, inner layers    (v1)
           U(+-sqrt(3 * outscale / fan_avg))       output layers
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# Cutting a unit normal at +-2 leaves a standard deviation of 0.8796...; this restores 1.
_TRUNCATION = 1 / 0.87962566103423978


@torch.no_grad()
def init_fan_in_(weight: Tensor, fan_in: int, outscale: float = 1.0) -> Tensor:
    """Fill with a cut normal of std outscale / sqrt(fan_in) (arXiv:2301.04104, Nature code).

    Args:
        weight: any shape, filled in place and returned.
        fan_in: inputs that meet in one output.
        outscale: 0 gives zeros, so that an untrained head says nothing.
    """
    if outscale == 0.0:
        return nn.init.zeros_(weight)
    std = _TRUNCATION * outscale / math.sqrt(fan_in)
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


@torch.no_grad()
def init_fan_avg_(weight: Tensor, fan_in: int, fan_out: int) -> Tensor:
    """Fill, in place, with a cut normal of variance 2 / (fan_in + fan_out) (paper v1)."""
    return init_fan_in_(weight, (fan_in + fan_out) / 2)


@torch.no_grad()
def init_uniform_(weight: Tensor, fan_in: int, fan_out: int, outscale: float = 1.0) -> Tensor:
    """Fill, in place, from U(+-sqrt(3 * outscale / fan_avg)) (paper v1, output layers)."""
    bound = math.sqrt(3 * outscale / ((fan_in + fan_out) / 2))
    return nn.init.uniform_(weight, -bound, bound)


def init_(
    weight: Tensor,
    fan_in: int,
    fan_out: int,
    init: str = "fan_in",
    outscale: float | None = None,
) -> Tensor:
    """Fill a weight by the named scheme.

    Args:
        weight: any shape, filled in place and returned.
        fan_in, fan_out: inputs per output and outputs per input.
        init: "fan_in" (Nature) or "fan_avg" (v1).
        outscale: scale of an output layer; None for an inner layer.

    Raises:
        ValueError: unknown scheme.
    """
    if init == "fan_in":
        return init_fan_in_(weight, fan_in, 1.0 if outscale is None else outscale)
    if init == "fan_avg":
        if outscale is None:
            return init_fan_avg_(weight, fan_in, fan_out)
        return init_uniform_(weight, fan_in, fan_out, outscale)
    raise ValueError(f"init must be 'fan_in' (Nature) or 'fan_avg' (v1); got {init!r}.")
