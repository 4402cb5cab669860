"""Encoders: from an observation x_t to its embedding e_t."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mario_dreamer.checks import show
from mario_dreamer.distributions.twohot import symlog
from mario_dreamer.networks.convolutions import Stages, convolution
from mario_dreamer.networks.layers import MLP
from mario_dreamer.networks.norms import ChannelNorm, make_norm
from mario_dreamer.networks.regions import region
from mario_dreamer.precision import active_dtype


def image_grid(
    name: str, image_shape: Sequence[int], stages: int, patch: int = 2
) -> tuple[int, int]:
    """Height and width of a frame after some stages, each of which halves it.

    Args:
        name: of the module, for the error.
        image_shape: (C, H, W).
        stages: how many.
        patch: what the first stage divides the sides by instead; a power of two.

    Raises:
        ValueError: not (C, H, W), or a side does not divide evenly.
    """
    if patch < 2 or patch & (patch - 1):
        raise ValueError(f"{name}: patch must be a power of two, 2 or more; got {patch}.")
    halvings = stages - 1 + int(math.log2(patch))
    if len(image_shape) != 3 or not 1 <= image_shape[0] <= min(image_shape[1:]):
        raise ValueError(
            f"{name} reads frames of shape (C, H, W); got image_shape={tuple(image_shape)}."
        )
    height, width = image_shape[1:]
    factor = 2**halvings
    if height % factor or width % factor:
        side = max(height % factor and height, width % factor and width)
        below, above = side // factor * factor, (side // factor + 1) * factor
        raise ValueError(
            f"{name} halves the frame {halvings} times, so each side must be a multiple of"
            f" {factor}; got {height} x {width}."
            f" Set env.image_size={below or above} or {above if below else above + factor}; an env"
            " without that option resizes by itself (torchrl.envs.Resize)."
        )
    return height // factor, width // factor


V1 = {"depth": 32, "mults": (1, 2, 4, 8), "kernel": 4, "norm": "layer", "init": "fan_avg"}


class ConvEncoder(nn.Module):
    """Encode a frame: convolve at full resolution, keep the strongest of each 2 x 2, four times.

    Paper: arXiv:2301.04104, "World model learning" (encoder; Nature code).

        x - 0.5 -> [conv 5 x 5 -> max pool 2 x 2 -> norm over channels -> SiLU] x 4 -> flatten

    Args:
        image_shape: (C, H, W), sides multiples of 2 ** len(mults).
        depth: channels of a stage are depth times its multiplier.
        mults: the multipliers, one for each stage.
        kernel: side of a convolution, odd.
        norm, init: see `MLP`.

    Attributes:
        embed_dim: E = H / 16 * W / 16 * depth * mults[-1].
        shape: (C, H, W).

    Raises:
        ValueError: a side of the image is not a multiple of 2 ** len(mults).
    """

    stride = 1
    patch = 2  # what the first stage shrinks the frame by

    def __init__(
        self,
        image_shape: Sequence[int],
        depth: int = 16,
        mults: Sequence[int] = (2, 3, 4, 4),
        kernel: int = 5,
        norm: str = "rms",
        init: str = "fan_in",
    ) -> None:
        super().__init__()
        grid = image_grid(type(self).__name__, image_shape, len(mults), self.patch)
        self.shape = tuple(image_shape)
        channels = [image_shape[0]] + [depth * mult for mult in mults]
        self.stages = Stages()
        for before, after in itertools.pairwise(channels):
            channel_norm = make_norm(norm, after)
            bias = not channel_norm.has_shift
            side, stride = kernel, self.stride
            if not self.stages and self.patch > 2:
                side, stride = 2 * self.patch, self.patch
            self.stages.append(convolution(before, after, side, stride, bias=bias, init=init))
            if self.stride == 1:
                self.stages.append(nn.MaxPool2d(2))
            self.stages.extend([ChannelNorm(channel_norm), nn.SiLU()])
        self.embed_dim = math.prod(grid) * channels[-1]

    def forward(self, pixels: Tensor) -> Tensor:
        """Frames [..., C, H, W], float in [0, 1], to e_t [..., E].

        Raises:
            ValueError: frames of another shape, or bytes.
        """
        if tuple(pixels.shape[-3:]) != self.shape or not pixels.is_floating_point():
            raise ValueError(
                f"{type(self).__name__}: got frames {show(pixels)}; expected floats in [0, 1], [..., "
                f"{', '.join(map(str, self.shape))}]. Resize them, or build the encoder with their "
                "image_shape; to_model_input makes floats of bytes."
            )
        maps = self.stages(_shift(pixels.reshape(-1, *self.shape)))
        return maps.permute(0, 2, 3, 1).reshape(*pixels.shape[:-3], self.embed_dim)


@region
def _shift(frames: Tensor) -> Tensor:
    dtype = active_dtype(frames.device) or frames.dtype  # what the first convolution reads
    return frames.clone(memory_format=torch.channels_last).sub_(0.5).to(dtype)


class StridedConvEncoder(ConvEncoder):
    """Encode a frame with convolutions that take every second pixel: a third of the work.

    Paper: arXiv:2301.04104v1, "World model learning" (encoder).

        x - 0.5 -> [conv 4 x 4, stride 2 -> norm over channels -> SiLU] x 4 -> flatten

    Args:
        image_shape: see `ConvEncoder`.
        patch: stride of the first convolution, a power of two; its kernel is twice as wide where
            that is above 2. With 4 no map is larger than a quarter of the frame's side, where
            most of the time of small networks goes: half the work of encoder and decoder.
        options: see `ConvEncoder`; kernel is even. Defaults are those of v1.
    """

    stride = 2

    def __init__(self, image_shape: Sequence[int], patch: int = 2, **options: Any) -> None:
        self.patch = patch
        super().__init__(image_shape, **{**V1, **options})


class MLPEncoder(nn.Module):
    """Encode a vector of sensors: by default symlog, then an MLP.

    Paper: arXiv:2301.04104, "Robust predictions" (symlog inputs).

    Args:
        vector_dim: V.
        layers, units: of the MLP.
        norm, init: see `MLP`.
        symlog: squash readings of unknown scale first.

    Attributes:
        embed_dim: E = units.
        shape: (V,).
    """

    def __init__(
        self,
        vector_dim: int,
        layers: int = 3,
        units: int = 256,
        norm: str = "rms",
        init: str = "fan_in",
        symlog: bool = True,
    ) -> None:
        super().__init__()
        self.symlog = symlog
        self.shape = (vector_dim,)
        self.mlp = MLP(vector_dim, units, layers, norm, init=init)
        self.embed_dim = self.mlp.out_dim

    def forward(self, vector: Tensor) -> Tensor:
        """Sensors [..., V], any range, to e_t [..., E]."""
        return self.mlp(symlog(vector) if self.symlog else vector)


class MultiEncoder(nn.Module):
    """Encode several observations: one encoder for each key, their outputs concatenated.

    Args:
        encoders: observation key -> encoder with `embed_dim`; in this order.
        shapes: observation key -> shape of one observation; None asks each encoder's `shape`.

    Attributes:
        embed_dim: sum of theirs.
        shapes: observation key -> shape of one observation.

    Raises:
        ValueError: no encoder given.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__()
        if not encoders:
            raise ValueError("MultiEncoder needs an encoder for at least one observation key.")
        self.encoders = nn.ModuleDict(encoders)
        self.shapes = dict(shapes or {key: encoder.shape for key, encoder in encoders.items()})
        self.embed_dim = sum(encoder.embed_dim for encoder in encoders.values())

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Observations by key, [..., *event] each, to e_t [..., E]."""
        return torch.cat([encoder(observations[key]) for key, encoder in self.encoders.items()], -1)
