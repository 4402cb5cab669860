"""Layers: linear, convolution, MLP."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mario_dreamer.networks.initialisation import init_
from mario_dreamer.networks.norms import make_norm
from mario_dreamer.networks.regions import region
from mario_dreamer.networks.upsampling import DoublingConv, PatchConv


class Linear(nn.Linear):
    """A linear layer whose weight and bias may have been `padded` with zeros.

    See `mario_dreamer.networks.regions`: what tensor cores multiply has sides of 8, 16, ...; a
    product with 1,031 columns, of z and a one-hot of 7 actions, took 11 us where others of its
    size take 4 (H200, 16 rows).
    """

    takes_padding = True

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]."""
        missing = self.weight.shape[1] - self.in_features  # 0 but in compiled regions
        rows = F.linear(F.pad(x, (0, missing)) if missing else x, self.weight, self.bias)
        return rows if rows.shape[-1] == self.out_features else rows[..., : self.out_features]


def linear(
    in_dim: int,
    out_dim: int,
    bias: bool = True,
    init: str = "fan_in",
    outscale: float | None = None,
) -> nn.Linear:
    """Build a linear layer with our initialisation and a zero bias.

    Args:
        in_dim, out_dim: sizes of the last dimension.
        bias: False before a norm that shifts.
        init: "fan_in" (Nature) or "fan_avg" (v1).
        outscale: scale of an output layer; None for an inner one.
    """
    layer = Linear(in_dim, out_dim, bias=bias)
    init_(layer.weight, in_dim, out_dim, init, outscale)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def normed(in_dim: int, out_dim: int, norm: str = "rms", init: str = "fan_in") -> nn.Sequential:
    """Build Linear -> norm -> SiLU, [..., in_dim] -> [..., out_dim]."""
    after = make_norm(norm, out_dim)
    return nn.Sequential(linear(in_dim, out_dim, not after.has_shift, init), after, nn.SiLU())


class MLP(nn.Module):
    """Linear -> norm -> SiLU, some times over, then an output layer if asked for.

    Args:
        in_dim: size of the input.
        units: width of the layers in between.
        layers: how many of them; 0 is allowed.
        norm: "rms" (Nature; the linear keeps its bias) or "layer" (v1; it has none).
        out_dim: size of a plain linear output layer; None for none.
        outscale: scale of the output layer's initial weights; 0 begins with zeros.
        init: "fan_in" (Nature) or "fan_avg" (v1).

    Attributes:
        in_dim, out_dim: size of what goes in and of what comes out.
    """

    def __init__(
        self,
        in_dim: int,
        units: int,
        layers: int,
        norm: str = "rms",
        out_dim: int | None = None,
        outscale: float = 1.0,
        init: str = "fan_in",
    ) -> None:
        super().__init__()
        sizes = [in_dim] + [units] * layers
        self.hidden = nn.Sequential(
            *[normed(sizes[i], sizes[i + 1], norm, init) for i in range(layers)]
        )
        self.out = None
        if out_dim is not None:
            self.out = linear(sizes[-1], out_dim, init=init, outscale=outscale)
        self.in_dim, self.out_dim = in_dim, out_dim or sizes[-1]

    @region
    def forward(self, x: Tensor) -> Tensor:
        """[..., in_dim] -> [..., out_dim]."""
        # Rows that lie together: a slice in time would be multiplied sequence by sequence, with a
        # copy of the weights for each.
        rows = self.hidden(x.reshape(-1, x.shape[-1]))
        rows = rows if self.out is None else self.out(rows)
        return rows.reshape(*x.shape[:-1], rows.shape[-1])


class Stages(nn.Sequential):
    """Convolutions, each with layers after it that a compiler may fuse: pool, norm, SiLU."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W], lying channels_last, to others."""
        kinds = nn.Conv2d | nn.ConvTranspose2d
        starts = [i for i, layer in enumerate(self) if isinstance(layer, kinds)]
        for start, end in itertools.pairwise([*starts, len(self)]):
            x = self[start](x)
            x = x if start + 1 == end else self._after(x, start + 1, end)
        return x

    @region
    def _after(self, x: Tensor, start: int, end: int) -> Tensor:
        # One region each: torch's own pool and norm over channels were a quarter of an update.
        for layer in list(self)[start:end]:
            x = layer(x)
        return x


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
            (`DoublingConv`), else transposed (`PatchConv` where the kernel is the stride).
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
    if enlarges and (stride == 1 or stride == kernel):
        kind = DoublingConv if stride == 1 else PatchConv
        layer = kind(in_channels, out_channels, kernel, bias)
    else:
        kind, padding = nn.ConvTranspose2d if enlarges else nn.Conv2d, (kernel - stride) // 2
        layer = kind(in_channels, out_channels, kernel, stride, padding, bias=bias)
    area = kernel * kernel
    init_(layer.weight, area * in_channels, area * out_channels, init, outscale)
    if bias:
        nn.init.zeros_(layer.bias)
    # Maps lie channels_last, the fastest layout for convolutions and for the norm over channels.
    return layer.to(memory_format=torch.channels_last)
