"""Enlarge a map: double its sides and convolve, or draw a square of pixels from each of its own."""

from __future__ import annotations

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mario_dreamer.checks import autocast_type


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
        reach = (kernel // 2 + 1) // 2  # pixels of x to either side
        taps = torch.arange(kernel) - kernel // 2
        sees = torch.stack([taps, taps + 1]).div(2, rounding_mode="floor") + reach
        # [2, 2 * reach + 1, k]: case by pixel of x by tap, 1 where the tap sees the pixel.
        share = F.one_hot(sees, 2 * reach + 1).transpose(1, 2).float()
        self.register_buffer("share", share, persistent=False)

    def convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """[N, C, H, W] to [N, 4 * out_channels or more, H, W]."""
        weight = case_weights("ayk,oikl,bxl->aboiyx", self.share, self.weight)
        return _convolve_cases(x, weight.flatten(0, 2), bias)

    def finish(self, maps: Tensor) -> Tensor:
        """[N, 4 * out_channels or more, H, W] to [N, out_channels, 2 * H, 2 * W]."""
        return _interleave(maps, self.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, out_channels, 2 * H, 2 * W], lying channels_last."""
        return self.finish(self.convolve(x, self.bias))


class SubpixelConv(nn.ConvTranspose2d):
    """A transposed convolution of stride 2 as a convolution that gives four pixels at once.

    Paper: arXiv:2301.04104v1, "World model learning" (decoder); Shi et al., 2016 (sub-pixel
    convolution).

        y[n, o, 2 * i + a, 2 * j + b] = conv(x, cases)[n, (a, b, o), i, j]

    The same numbers. Transposed to the three channels of a frame it took a tenth of an update on
    a GPU; as a convolution half of that.

    Args:
        in_channels, out_channels: of the maps [N, C, H, W].
        kernel: k, even.
        bias: as of a convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, 2, kernel // 2 - 1, bias=bias)
        reach = kernel // 4  # pixels of x to either side
        taps = torch.arange(2).view(2, 1) - 2 * torch.arange(-reach, reach + 1) + kernel // 2 - 1
        # [2, 2 * reach + 1, k]: case by pixel of x by tap, 1 where the tap sees the pixel.
        share = (taps.unsqueeze(-1) == torch.arange(kernel)).float()
        self.register_buffer("share", share, persistent=False)

    def convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """[N, C, H, W] to [N, 4 * out_channels or more, H, W]."""
        weight = case_weights("ayk,iokl,bxl->aboiyx", self.share, self.weight)
        return _convolve_cases(x, weight.flatten(0, 2), bias)

    def finish(self, maps: Tensor) -> Tensor:
        """[N, 4 * out_channels or more, H, W] to [N, out_channels, 2 * H, 2 * W]."""
        return _interleave(maps, self.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, out_channels, 2 * H, 2 * W], lying channels_last."""
        return self.finish(self.convolve(x, self.bias))


def case_weights(equation: str, share: Tensor, weight: Tensor) -> Tensor:
    """Give the weights to the cases: the einsum of share, weight, share; sums come before rounding."""
    off = autocast_type(weight.device) is None
    with contextlib.nullcontext() if off else torch.autocast(weight.device.type, enabled=False):
        share = share.to(weight.dtype)
        return torch.einsum(equation, share, weight, share)


def tensor_core_channels(x: Tensor, channels: int) -> int:
    """How many channels a GPU should convolve instead of these: a multiple of 8."""
    return channels + (-channels % 8 if x.is_cuda else 0)


def _convolve_cases(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve with weights [4 * O, C, k, k] of the cases (row, column, channel)."""
    missing = tensor_core_channels(x, len(weight)) - len(weight)
    weight = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, missing))
    bias = None if bias is None else F.pad(bias.repeat(4), (0, missing))
    weight = weight.contiguous(memory_format=torch.channels_last)
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def _interleave(maps: Tensor, channels: int) -> Tensor:
    """[N, 4 * C or more, H, W], by case, to [N, C, 2 * H, 2 * W], lying channels_last."""
    height, width = maps.shape[-2:]
    maps = maps.permute(0, 2, 3, 1)[..., : 4 * channels]
    maps = maps.reshape(-1, height, width, 2, 2 * channels)
    # [N, H, W, 2, 2 * C] -> [N, H, 2, W, 2 * C] -> [N, 2 * H, 2 * W, C]
    maps = maps.transpose(2, 3).reshape(-1, 2 * height, 2 * width, channels)
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

    def convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """[N, C, H, W] to [N, H, W, out_channels * s * s]; fastest where x lies channels_last."""
        weight = self.weight.flatten(1).t()  # [out * s * s, C]
        bias = None if bias is None else bias.repeat_interleave(self.stride[0] ** 2)
        return F.linear(x.permute(0, 2, 3, 1), weight, bias)

    def finish(self, squares: Tensor) -> Tensor:
        """[N, H, W, out_channels * s * s] to [N, out_channels, s * H, s * W]."""
        squares = squares.unflatten(-1, (self.out_channels, *self.stride))
        # [N, H, W, out, s, s] -> [N, out, H, s, W, s] -> [N, out, s * H, s * W]
        return squares.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, out_channels, s * H, s * W]."""
        return self.finish(self.convolve(x, self.bias))
