"""Initial weights: the two schemes of DreamerV3's versions.

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
        outscale: scale of an output layer, 0 gives zeros; None for an inner layer.

    Raises:
        ValueError: unknown scheme.
    """
    if init not in ("fan_in", "fan_avg"):
        raise ValueError(f"init must be 'fan_in' (Nature) or 'fan_avg' (v1); got {init!r}.")
    fan = fan_in if init == "fan_in" else (fan_in + fan_out) / 2
    if init == "fan_avg" and outscale is not None:
        bound = math.sqrt(3 * outscale / fan)
        return nn.init.uniform_(weight, -bound, bound)
    if outscale == 0.0:
        return nn.init.zeros_(weight)
    std = _TRUNCATION * (1.0 if outscale is None else outscale) / math.sqrt(fan)
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
