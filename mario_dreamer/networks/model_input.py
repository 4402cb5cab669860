"""From what replay stores to what networks read."""

from __future__ import annotations

import torch
from torch import Tensor

from mario_dreamer.checks import show
from mario_dreamer.networks.regions import region


def to_model_input(observation: Tensor) -> Tensor:
    """Turn what replay stores into what networks read: bytes become floats in [0, 1].

    Args:
        observation: uint8 frames [..., C, H, W], or floats, which pass through.

    Returns:
        floats of the same shape; frames in [0, 1].
    """
    if observation.dtype != torch.uint8 and not observation.is_floating_point():
        raise ValueError(
            f"to_model_input: got observations {show(observation)}; expected uint8 frames, or "
            "floats, frames then in [0, 1]."
        )
    return _unit(observation) if observation.dtype == torch.uint8 else observation


@region
def _unit(frames: Tensor) -> Tensor:
    return frames.float().div_(255.0)  # of our own copy
