"""From what replay stores to what networks read."""

from __future__ import annotations

import torch
from torch import Tensor

from mario_dreamer.checks import show
from mario_dreamer.networks.regions import region


def to_model_input(observation: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Turn what replay stores into what networks read: bytes become floats in [0, 1].

    Args:
        observation: uint8 frames [..., C, H, W], or floats, of any range.
        dtype: of the networks, see `precision.wide_dtype`.

    Returns:
        the same shape in that type; frames in [0, 1].
    """
    if observation.dtype != torch.uint8 and not observation.is_floating_point():
        raise ValueError(
            f"to_model_input: got observations {show(observation)}; expected uint8 frames, or "
            "floats, frames then in [0, 1]."
        )
    return _unit(observation, dtype) if observation.dtype == torch.uint8 else observation.to(dtype)


@region
def _unit(frames: Tensor, dtype: torch.dtype) -> Tensor:
    return frames.to(dtype).div_(255.0)  # of our own copy
