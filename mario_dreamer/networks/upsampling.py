"""Enlarge a map: double its sides and convolve, or draw a square of pixels from each of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DoublingConv(nn.Conv2d):
    """Repeat every pixel 2 x 2 and convolve: the same numbers from about a third of the work.

    Paper: arXiv:2301.04104, "World model learning" (decoder; Nature code).

        y = conv(repeat(x, 2 x 2), weight)            k x k, padding k // 2

    Where a k x k window lies on the doubled map it covers fewer pixels of x, several times each;
    which ones depends only on whether the row and the column are even or odd. So the weights of
    each of the four cases are summed up first, and one smaller convolution of x gives all four
    at once: 9 products a pixel instead of 25 for k = 5, and no doubled map to write and read.

    Args:
        in_channels, out_channels: of the maps [N, C, H, W].
        kernel: k, odd.
        bias: False before a norm that shifts.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias)
        self.reach = (kernel // 2 + 1) // 2  # pixels of x to either side
        taps = torch.arange(kernel) - kernel // 2
        sees = torch.stack([taps, taps + 1]).div(2, rounding_mode="floor") + self.reach
        # [2, 2 * reach + 1, k]: case by pixel of x by tap, 1 where the tap sees the pixel.
        share = F.one_hot(sees, 2 * self.reach + 1).transpose(1, 2).float()
        self.register_buffer("share", share, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, out_channels, 2 * H, 2 * W], lying channels_last."""
        with torch.autocast(x.device.type, enabled=False):  # sum first, round the sums
            share = self.share.to(self.weight.dtype)
            weight = torch.einsum("ayk,oikl,bxl->aboiyx", share, self.weight, share)
        weight = weight.flatten(0, 2).contiguous(memory_format=torch.channels_last)
        bias = None if self.bias is None else self.bias.repeat(4)
        maps = F.conv2d(x, weight, bias, padding=self.reach)  # [N, 2 * 2 * C, H, W]
        height, width = x.shape[-2:]
        maps = maps.permute(0, 2, 3, 1).reshape(-1, height, width, 2, 2 * self.out_channels)
        # [N, H, W, 2, 2 * C] -> [N, H, 2, W, 2 * C] -> [N, 2 * H, 2 * W, C]
        maps = maps.transpose(2, 3).reshape(-1, 2 * height, 2 * width, self.out_channels)
        return maps.permute(0, 3, 1, 2)


class PatchConv(nn.ConvTranspose2d):
    """Draw a square of pixels from each pixel of a map: a transposed convolution as one product.

        y[n, o, s * i + a, s * j + b] = sum_c x[n, c, i, j] * weight[c, o, a, b] + bias[o]

    Where the kernel is as wide as the stride the squares do not overlap, so that a matrix product
    gives them all; torch's own kernel for three channels took a third of all convolution time.

    Args:
        in_channels, out_channels: of the maps [N, C, H, W].
        side: s, of the square.
        bias: as of a convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, side: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, side, side, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, out_channels, s * H, s * W]; fastest where x lies channels_last."""
        weight = self.weight.flatten(1).t()  # [out * s * s, C]
        bias = None if self.bias is None else self.bias.repeat_interleave(self.stride[0] ** 2)
        squares = F.linear(x.permute(0, 2, 3, 1), weight, bias)  # [N, H, W, out * s * s]
        squares = squares.unflatten(-1, (self.out_channels, *self.stride))
        # [N, H, W, out, s, s] -> [N, out, H, s, W, s] -> [N, out, s * H, s * W]
        return squares.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
