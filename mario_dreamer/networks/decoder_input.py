"""The first small map of an image decoder, made of the latent state."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mario_dreamer.networks.layers import BlockLinear, linear, normed
from mario_dreamer.networks.norms import make_norm


class BlockInput(nn.Module):
    """Read h by blocks and z through one layer, add them up, normalise over channels.

        map = SiLU(norm(BlockLinear(h) + Linear(SiLU(norm(Linear(z))))))

    Each block of h writes channels of its own, at every place of the map.

    Args:
        deter_dim: D.
        stoch_dim: S * K.
        grid: height and width of the map.
        channels: of the map; a multiple of blocks.
        units: half the width of the layer that reads z.
        blocks: of the BlockLinear.
        norm, init: see `MLP`.

    Raises:
        ValueError: channels or D is not a multiple of blocks.
    """

    def __init__(
        self,
        deter_dim: int,
        stoch_dim: int,
        grid: tuple[int, int],
        channels: int,
        units: int,
        blocks: int = 8,
        norm: str = "rms",
        init: str = "fan_in",
    ) -> None:
        super().__init__()
        if channels % blocks:
            raise ValueError(
                f"The decoder's first map has {channels} channels, which {blocks} blocks cannot"
                f" share evenly. Set decoder.depth or decoder.blocks so that they divide."
            )
        self.grid, self.channels = grid, channels
        self.from_deter = BlockLinear(deter_dim, math.prod(grid) * channels, blocks, init)
        self.from_stoch = nn.Sequential(
            normed(stoch_dim, 2 * units, norm, init),
            linear(2 * units, math.prod(grid) * channels, init=init),
        )
        self.norm = make_norm(norm, channels)

    def forward(self, deter: Tensor, stoch: Tensor) -> Tensor:
        """h [N, D] and flat z [N, S * K] to a map [N, C, h, w] that lies channels_last."""
        height, width = self.grid
        blocks = self.from_deter.blocks
        # Written by block: [N, g, h, w, C / g] -> [N, h, w, g, C / g] -> [N, h, w, C]
        deter = self.from_deter(deter).reshape(-1, blocks, height, width, self.channels // blocks)
        deter = deter.permute(0, 2, 3, 1, 4).flatten(-2)
        stoch = self.from_stoch(stoch).reshape(-1, height, width, self.channels)
        return F.silu(self.norm(deter + stoch)).permute(0, 3, 1, 2)


class LinearInput(nn.Module):
    """Read [h, z] through one linear layer, without norm or activation (paper v1).

    Args:
        deter_dim, stoch_dim, grid, channels, init: see `BlockInput`.
    """

    def __init__(
        self,
        deter_dim: int,
        stoch_dim: int,
        grid: tuple[int, int],
        channels: int,
        init: str = "fan_avg",
    ) -> None:
        super().__init__()
        self.shape = (*grid, channels)
        # An output layer to the v1 scheme: initialised uniformly.
        self.linear = linear(deter_dim + stoch_dim, math.prod(self.shape), True, init, 1.0)

    def forward(self, deter: Tensor, stoch: Tensor) -> Tensor:
        """h [N, D] and flat z [N, S * K] to a map [N, C, h, w] that lies channels_last."""
        maps = self.linear(torch.cat([deter, stoch], -1)).reshape(-1, *self.shape)
        return maps.permute(0, 3, 1, 2)
