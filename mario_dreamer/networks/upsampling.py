"""Enlarge a map: double its sides and convolve, or draw a square of pixels from each of its own."""

from __future__ import annotations

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mario_dreamer.checks import has_functorch
from mario_dreamer.precision import active_dtype


class TwoParts(nn.Module):
    """A convolution in two parts: sums of products, and what a compiler fuses with what follows."""

    bias: Tensor | None

    def convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """The sums of products of maps [N, C, H, W], and the bias if it is given."""
        raise NotImplementedError

    def finish(self, maps: Tensor) -> Tensor:
        """Put what `convolve` gives where it belongs; here it is there already."""
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Both, with the bias; maps lie channels_last."""
        return self.finish(self.convolve(x, self.bias))


class FourCases(TwoParts):
    """Give the four pixels of each 2 x 2 by one convolution of the map of half the side.

    Which pixels of x a pixel of the result sees, and through which taps of the kernel, depends
    only on whether its row and column are even or odd: four cases, four times the channels.

        y[n, o, 2 * i + a, 2 * j + b] = conv(x, weights of the cases)[n, (a, b, o), i, j]

    Attributes:
        share: [2, 2 * reach + 1, k]: case by pixel of x by tap, 1 where the tap sees the pixel.
    """

    share: Tensor
    weight: Tensor
    out_channels: int
    order = "oikl"  # of the weight's sides: out, in, row, column

    def convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """[N, C, H, W] to [N, 4 * out_channels or more, H, W].

        The weights are summed in their own type, and rounded afterwards.
        """
        off = active_dtype(x.device) is None
        with contextlib.nullcontext() if off else torch.autocast(x.device.type, enabled=False):
            share = self.share.to(self.weight.dtype)
            weight = torch.einsum(f"ayk,{self.order},bxl->aboiyx", share, self.weight, share)
        weight = weight.flatten(0, 2)
        bias = None if bias is None else bias.repeat(4)
        if x.is_cuda and (missing := -len(weight) % 8):  # tensor cores need multiples of 8
            weight = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, missing))
            bias = None if bias is None else F.pad(bias, (0, missing))
        if not has_functorch():  # vmap does not know the layout
            weight = weight.contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    def finish(self, maps: Tensor) -> Tensor:
        """[N, 4 * out_channels or more, H, W] to [N, out_channels, 2 * H, 2 * W]."""
        height, width = maps.shape[-2:]
        maps = maps.permute(0, 2, 3, 1)[..., : 4 * self.out_channels]
        maps = maps.reshape(-1, height, width, 2, 2 * self.out_channels)
        # [N, H, W, 2, 2 * C] -> [N, H, 2, W, 2 * C] -> [N, 2 * H, 2 * W, C]
        maps = maps.transpose(2, 3).reshape(-1, 2 * height, 2 * width, self.out_channels)
        return maps.permute(0, 3, 1, 2)


class DoublingConv(FourCases, nn.Conv2d):
    """Repeat every pixel 2 x 2 and convolve: the same numbers from about a third of the work.

    Paper: arXiv:2301.04104, "World model learning" (decoder; Nature code).

        y = conv(repeat(x, 2 x 2), weight)            k x k, padding k // 2

    Where a k x k window lies on the doubled map it covers fewer pixels of x, several times each.
    Their weights are summed up first: 9 products a pixel instead of 25 for k = 5, and no doubled
    map to write and read.

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
        share = F.one_hot(sees, 2 * reach + 1).transpose(1, 2).float()
        self.register_buffer("share", share, persistent=False)


class SubpixelConv(FourCases, nn.ConvTranspose2d):
    """A transposed convolution of stride 2, as one to four times the channels.

    Paper: arXiv:2301.04104v1, "World model learning" (decoder); Shi et al., 2016 (sub-pixel
    convolution).

    The same numbers. To the three channels of a frame, forward and back, it took 1.1 ms of an
    update of 10.7 on an H200; as a sub-pixel convolution 0.8, while other work ran.

    Args:
        in_channels, out_channels: of the maps [N, C, H, W].
        kernel: k, even.
        bias: as of a convolution.
    """

    order = "iokl"

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, 2, kernel // 2 - 1, bias=bias)
        reach = kernel // 4  # pixels of x to either side
        taps = torch.arange(2).view(2, 1) - 2 * torch.arange(-reach, reach + 1) + kernel // 2 - 1
        share = (taps.unsqueeze(-1) == torch.arange(kernel)).float()
        self.register_buffer("share", share, persistent=False)


class PatchConv(TwoParts, nn.ConvTranspose2d):
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

    def finish(self, maps: Tensor) -> Tensor:
        """[N, H, W, out_channels * s * s] to [N, out_channels, s * H, s * W]."""
        squares = maps.unflatten(-1, (self.out_channels, *self.stride))
        # [N, H, W, out, s, s] -> [N, out, H, s, W, s] -> [N, out, s * H, s * W]
        return squares.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
