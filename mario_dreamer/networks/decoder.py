"""Decoders: from the latent state (h_t, z_t) to the frame or vector to expect."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mario_dreamer.distributions.simple import MSE, SymlogMSE
from mario_dreamer.networks.convolutions import Stages, convolution
from mario_dreamer.networks.decoder_input import BlockInput, LinearInput
from mario_dreamer.networks.encoder import V1 as ENCODER_V1
from mario_dreamer.networks.encoder import image_grid
from mario_dreamer.networks.layers import MLP
from mario_dreamer.networks.norms import ChannelNorm, make_norm
from mario_dreamer.precision import widened

V1 = ENCODER_V1 | {"input": "linear", "sigmoid": False}


class ConvDecoder(nn.Module):
    """Decode a frame: from a small map, double it and convolve, four times.

    Paper: arXiv:2301.04104, "World model learning" (decoder; Nature code).

        input map -> [upsample 2 x 2 -> conv 5 x 5 -> norm over channels -> SiLU] x 3
                  -> upsample 2 x 2 -> conv 5 x 5 -> sigmoid

    Args:
        deter_dim: D.
        stoch_shape: (S, K).
        image_shape: (C, H, W), sides multiples of 2 ** len(mults).
        depth: channels of a map are depth times its multiplier.
        mults: the multipliers as the encoder has them; used from last to first.
        kernel: side of a convolution, odd.
        input: how the first map is made: "blocks" (Nature, reads h and z apart) or "linear" (v1).
        units: half the width of the layer that reads z, for "blocks".
        blocks: of the BlockLinear that reads h, for "blocks".
        sigmoid: squash the output into [0, 1]; else it is shifted by 0.5, as the input was.
        norm, init: see `MLP`.

    Raises:
        ValueError: a side of the image is not a multiple of 2 ** len(mults), or another `input`.
    """

    stride = 1
    patch = 2  # what the last stage enlarges its map by

    def __init__(
        self,
        deter_dim: int,
        stoch_shape: Sequence[int],
        image_shape: Sequence[int],
        depth: int = 16,
        mults: Sequence[int] = (2, 3, 4, 4),
        kernel: int = 5,
        input: str = "blocks",
        units: int = 256,
        blocks: int = 8,
        sigmoid: bool = True,
        norm: str = "rms",
        init: str = "fan_in",
    ) -> None:
        super().__init__()
        grid = image_grid(type(self).__name__, image_shape, len(mults), self.patch)
        self.image_shape = tuple(image_shape)
        channels = [depth * mult for mult in reversed(mults)]
        sizes = deter_dim, math.prod(stoch_shape), grid, channels[0]
        if input == "blocks":
            self.input: nn.Module = BlockInput(*sizes, units, blocks, norm, init)
        elif input == "linear":
            self.input = LinearInput(*sizes, init)
        else:
            raise ValueError(f"decoder.input must be blocks (Nature) or linear (v1); got {input!r}.")
        self.stages = Stages()
        for before, after in itertools.pairwise(channels):
            channel_norm = make_norm(norm, after)
            bias = not channel_norm.has_shift
            conv = convolution(before, after, kernel, self.stride, True, bias, init)
            self.stages.extend([conv, ChannelNorm(channel_norm), nn.SiLU()])
        patch = (kernel, self.stride) if self.patch == 2 else (self.patch, self.patch)
        last = convolution(channels[-1], image_shape[0], *patch, True, True, init, 1.0)
        self.stages.extend([last, _Frames(sigmoid)])

    def forward(self, deter: Tensor, stoch: Tensor) -> Tensor:
        """Decode the expected frame.

        Args:
            deter: h_t, [..., D].
            stoch: z_t, [..., S, K].

        Returns:
            Mean of x_t, [..., C, H, W], in [0, 1] with a sigmoid and around it without.
        """
        flat = (x.reshape(-1, x.shape[-1]) for x in (deter, stoch.flatten(-2)))  # to [N, n]
        frames = self.stages(self.input(*flat))
        return frames.reshape(*deter.shape[:-1], *self.image_shape)

    def dist(self, mean: Tensor) -> MSE:
        """The distribution of x_t, [..., C, H, W], around the mean; log_prob is [...]."""
        return MSE(mean, event_dims=3)


class _Frames(nn.Module):
    """Maps of any float type to frames: float32 or wider, squashed or shifted."""

    def __init__(self, sigmoid: bool) -> None:
        super().__init__()
        self.sigmoid = sigmoid

    def forward(self, maps: Tensor) -> Tensor:
        # In the memory layout of replay's frames, for the loss.
        dtype = torch.promote_types(maps.dtype, torch.float32)
        frames = maps.to(dtype, memory_format=torch.contiguous_format)
        return frames.sigmoid() if self.sigmoid else frames.add_(0.5)


class StridedConvDecoder(ConvDecoder):
    """Decode a frame with transposed convolutions that double the side themselves.

    Paper: arXiv:2301.04104v1, "World model learning" (decoder).

        input map -> [transposed conv 4 x 4, stride 2 -> norm over channels -> SiLU] x 3
                  -> transposed conv 4 x 4, stride 2 -> + 0.5

    Args:
        deter_dim, stoch_shape, image_shape: see `ConvDecoder`.
        patch: above 2, the last stage draws squares of patch x patch pixels that do not overlap,
            see `StridedConvEncoder`; a power of two.
        options: see `ConvDecoder`; kernel is even. Defaults are those of v1.
    """

    stride = 2

    def __init__(
        self,
        deter_dim: int,
        stoch_shape: Sequence[int],
        image_shape: Sequence[int],
        patch: int = 2,
        **options: Any,
    ) -> None:
        self.patch = patch
        super().__init__(deter_dim, stoch_shape, image_shape, **{**V1, **options})


class MLPDecoder(nn.Module):
    """Predict the vector of sensor readings, by default in symlog space.

    Paper: arXiv:2301.04104, "Robust predictions" (symlog squared error).

    Args:
        deter_dim, stoch_shape: see `ConvDecoder`.
        vector_dim: V.
        layers, units: of the MLP that reads [h_t, z_t].
        norm, init: see `MLP`.
        symlog: predict symlog(x_t), for readings of unknown scale; False: x_t itself, where large
            readings have to be as exact as small ones.
    """

    def __init__(
        self,
        deter_dim: int,
        stoch_shape: Sequence[int],
        vector_dim: int,
        layers: int = 3,
        units: int = 256,
        norm: str = "rms",
        init: str = "fan_in",
        symlog: bool = True,
    ) -> None:
        super().__init__()
        self.symlog = symlog
        feat_dim = deter_dim + math.prod(stoch_shape)
        self.mlp = MLP(feat_dim, units, layers, norm, vector_dim, init=init)

    def forward(self, deter: Tensor, stoch: Tensor) -> Tensor:
        """h_t [..., D] and z_t [..., S, K] to the mean of symlog(x_t) or x_t, [..., V]."""
        return widened(self.mlp(torch.cat([deter, stoch.flatten(-2)], -1)))

    def dist(self, mean: Tensor) -> MSE:
        """The distribution of x_t, [..., V], around the mean; log_prob is [...]."""
        return SymlogMSE(mean) if self.symlog else MSE(mean)
