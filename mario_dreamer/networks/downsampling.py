"""Convolve at full resolution and keep the strongest of each 2 x 2, on a map of half the side."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mario_dreamer.checks import autocast_type
from mario_dreamer.networks.regions import region
from mario_dreamer.networks.upsampling import case_weights, tensor_core_channels


class FoldedConv(nn.Conv2d):
    """A convolution whose four pixels of each 2 x 2 come out as channels, for `MaxOfFour`.

    Paper: arXiv:2301.04104, "World model learning" (encoder; Nature code).

        y[n, (a, b, o), i, j] = conv(x, weight)[n, o, 2 * i + a, 2 * j + b]      k x k, odd

    The pixels of each 2 x 2 of x become channels as well, so that one convolution of a quarter as
    many places gives all four. A frame's three channels are too few for a GPU: with twelve, and
    without a pool over places, it takes less than half the time.

    Args:
        in_channels, out_channels: of the maps [N, C, H, W].
        kernel: k, odd.
        bias: False before a norm that shifts.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias)
        self.reach = (kernel // 2 + 1) // 2  # blocks of x to either side
        blocks = torch.arange(-self.reach, self.reach + 1).view(1, -1, 1)
        case, inner = torch.arange(2).view(2, 1, 1), torch.arange(2)
        taps = 2 * blocks + inner - case + kernel // 2  # [a, block, inner]
        # [2, 2 * reach + 1, 2, k]: case by block by pixel in it by tap, 1 where the tap sees it.
        share = (taps.unsqueeze(-1) == torch.arange(kernel)).float()
        self.register_buffer("share", share, persistent=False)

    def convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """[N, C, H, W], sides even, to [N, 4 * out_channels, H / 2, W / 2]."""
        weight = case_weights("apdk,ockl,bqel->abocdepq", self.share, self.weight)
        weight = weight.flatten(3, 5).flatten(0, 2)  # [4 * O, 4 * C, p, q]
        missing = tensor_core_channels(x, weight.shape[1]) - weight.shape[1]
        weight = F.pad(weight, (0, 0, 0, 0, 0, missing)).contiguous(
            memory_format=torch.channels_last
        )
        bias = None if bias is None else bias.repeat(4)
        return F.conv2d(_fold(x, missing, autocast_type(x.device)), weight, bias, 1, self.reach)

    def finish(self, maps: Tensor) -> Tensor:
        """Put the numbers where they belong; here they are there already."""
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """As `convolve`, with the bias."""
        return self.convolve(x, self.bias)


@region
def _fold(x: Tensor, missing: int, dtype: torch.dtype | None) -> Tensor:
    """[N, C, H, W] to [N, 4 * C + missing, H / 2, W / 2], lying channels_last, zeros behind."""
    count, channels, height, width = x.shape
    x = x.reshape(count, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    x = x.to(dtype or x.dtype).reshape(count, height // 2, width // 2, 4 * channels)
    return (F.pad(x, (0, missing)) if missing else x).permute(0, 3, 1, 2)


class MaxOfFour(nn.Module):
    """The largest of the four pixels that `FoldedConv` gives: a 2 x 2 max pool.

    Where some are equal the gradient goes to the first of them, as of a pool.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """[N, 4 * C, H, W] to [N, C, H, W], lying channels_last."""
        count, _, height, width = maps.shape
        four = maps.permute(0, 2, 3, 1).reshape(count * height * width, 4, 1, -1)
        largest = F.max_pool2d(four.permute(0, 3, 1, 2), (4, 1))  # [N * H * W, C, 1, 1]
        return largest.reshape(count, height, width, -1).permute(0, 3, 1, 2)
