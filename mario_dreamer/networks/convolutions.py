"""Convolutions, and the layers after them that a compiler may fuse."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mario_dreamer.networks.initialisation import init_
from mario_dreamer.networks.regions import are_compiled, region
from mario_dreamer.networks.upsampling import DoublingConv, PatchConv, SubpixelConv, TwoParts


class Convolution(TwoParts, nn.Conv2d):
    """A plain convolution."""

    def convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """The sums of products of maps [N, C, H, W], and the bias if it is given."""
        return F.conv2d(x, self.weight, bias, self.stride, self.padding)


class TransposedConv(TwoParts, nn.ConvTranspose2d):
    """A transposed convolution to many channels."""

    def convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """The sums of products of maps [N, C, H, W], and the bias if it is given."""
        return F.conv_transpose2d(x, self.weight, bias, self.stride, self.padding)


class Stages(nn.Sequential):
    """Convolutions, each with layers after it that a compiler may fuse: pool, norm, SiLU.

    Args:
        layers: the first is one of `convolution`. Forward hooks on these do not run.

    Raises:
        TypeError: when called, if the first is another.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W], lying channels_last, to others."""
        starts = [i for i, layer in enumerate(self) if isinstance(layer, TwoParts)]
        if starts[:1] != [0]:
            first = [type(layer).__name__ for layer in self][:1]
            raise TypeError(f"Stages: the first layer is {first}; expected one of convolution().")
        # In compiled regions the bias is added after the convolution, where it costs nothing.
        bias_after = not torch.compiler.is_compiling() and are_compiled()
        for start, end in itertools.pairwise([*starts, len(self)]):
            maps = self[start].convolve(x, None if bias_after else self[start].bias)
            x = self._after(maps, start, end, bias_after)
        return x

    @region
    def _after(self, maps: Tensor, start: int, end: int, bias_after: bool) -> Tensor:
        # One region each: torch's own pool and norm over channels were a quarter of an update on a
        # GPU, the biases of large maps, added by themselves, 7 %.
        conv, layers = self[start], list(self)[start + 1 : end]
        maps = conv.finish(maps)
        if layers and isinstance(layers[0], nn.MaxPool2d):
            maps = layers[0](maps)  # same maximum without the bias, then fewer to add it to
            layers = layers[1:]
        if bias_after and conv.bias is not None:
            maps = maps + conv.bias.to(maps.dtype).view(-1, 1, 1)
        for layer in layers:
            maps = layer(maps)
        return maps


def convolution(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    enlarges: bool = False,
    bias: bool = True,
    init: str = "fan_in",
    outscale: float | None = None,
) -> nn.Module:
    """Build a convolution that keeps the side (stride 1), halves it (stride 2) or enlarges it.

    Args:
        in_channels, out_channels: of the maps [N, C, H, W].
        kernel: odd for stride 1, even for stride 2, so that the padding is symmetric.
        stride: 1 or 2; more for a patch.
        enlarges: double the side: of stride 1 by repeating every pixel 2 x 2 first
            (`DoublingConv`), else transposed (`PatchConv` where the kernel is the stride,
            `SubpixelConv` where few channels come out).
        bias: False before a norm that shifts.
        init, outscale: see `linear`.

    Raises:
        ValueError: kernel and stride do not pad evenly.
    """
    if kernel < stride or (kernel - stride) % 2:
        raise ValueError(
            f"A convolution of stride {stride} needs a kernel of {stride}, {stride + 2},"
            f" {stride + 4}, ... to pad both sides equally; got {kernel}."
        )
    padding = (kernel - stride) // 2
    if enlarges and (stride == 1 or stride == kernel):
        kind = DoublingConv if stride == 1 else PatchConv
        layer = kind(in_channels, out_channels, kernel, bias)
    elif enlarges and stride == 2 and out_channels < 8:
        layer = SubpixelConv(in_channels, out_channels, kernel, bias)
    else:
        kind = TransposedConv if enlarges else Convolution
        layer = kind(in_channels, out_channels, kernel, stride, padding, bias=bias)
    area = kernel * kernel
    init_(layer.weight, area * in_channels, area * out_channels, init, outscale)
    if bias:
        nn.init.zeros_(layer.bias)
    # Maps lie channels_last, the fastest layout for convolutions and for the norm over channels.
    return layer.to(memory_format=torch.channels_last)
