"""Layers: linear, block-diagonal linear, MLP, MLP of two inputs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mario_dreamer.networks.initialisation import init_
from mario_dreamer.networks.norms import make_norm
from mario_dreamer.networks.regions import region


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


class BlockLinear(nn.Module):
    """A linear layer whose weight is block-diagonal: cheap for a wide recurrent state.

    Paper: arXiv:2301.04104, "Model sizes" (block-diagonal recurrent weights, 8 blocks).

    Args:
        in_dim, out_dim: sizes of the last dimension; block g reads the g-th slice of the input and
            writes the g-th slice of the output.
        blocks: how many.
        init: "fan_in" (Nature) or "fan_avg" (v1). The fan is that of all blocks together.

    Raises:
        ValueError: a size is not a multiple of blocks.
    """

    rounded = ("weight",)  # once an update, see `mario_dreamer.networks.regions`

    def __init__(self, in_dim: int, out_dim: int, blocks: int = 8, init: str = "fan_in") -> None:
        super().__init__()
        if in_dim % blocks or out_dim % blocks:
            raise ValueError(
                f"BlockLinear cuts input and output into {blocks} blocks, so both sizes must be"
                f" multiples of {blocks}; got {in_dim} -> {out_dim}. Change the size or `blocks`."
            )
        self.blocks = blocks
        self.weight = nn.Parameter(torch.empty(blocks, in_dim // blocks, out_dim // blocks))
        self.bias = nn.Parameter(torch.zeros(out_dim))
        init_(self.weight, in_dim, out_dim, init)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_dim] -> [..., out_dim]."""
        rows = x.reshape(-1, self.blocks, self.weight.shape[1]).transpose(0, 1)  # [g, N, in / g]
        out = torch.bmm(rows, self.weight).transpose(0, 1)  # [N, g, out / g]
        out = out.reshape(*x.shape[:-1], len(self.bias))
        return out + self.bias.to(out.dtype)


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
        out_dim: size of what comes out.
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
        self.out_dim = out_dim or sizes[-1]

    @region
    def forward(self, x: Tensor) -> Tensor:
        """[..., in_dim] -> [..., out_dim]."""
        # Rows that lie together: a slice in time would be multiplied sequence by sequence, with a
        # copy of the weights for each.
        rows = self.hidden(x.reshape(-1, x.shape[-1]))
        rows = rows if self.out is None else self.out(rows)
        return rows.reshape(*x.shape[:-1], rows.shape[-1])


class SplitMLP(MLP):
    """An MLP of two inputs, of which y is known long before x: its share is computed on its own.

        W [x, y] = W_x x + W_y y

    Args:
        x_dim: size of x.
        y_dim: size of y.
        units, layers: as of MLP; at least one layer.
        options: as of MLP.
    """

    def __init__(self, x_dim: int, y_dim: int, units: int, layers: int, **options: Any) -> None:
        super().__init__(x_dim + y_dim, units, layers, **options)
        self.x_dim = x_dim

    def share_of_y(self, y: Tensor) -> Tensor:
        """W_y y (+ bias), [..., y_dim] -> [..., units]."""
        first = self.hidden[0][0]
        return F.linear(y, first.weight[:, self.x_dim :], first.bias)

    def weight_of_x(self, dtype: torch.dtype) -> Tensor:
        """W_x, [units, x_dim]: a slice is not in autocast's cache, so it is rounded here, once."""
        return self.hidden[0][0].weight[:, : self.x_dim].to(dtype)

    def add_x(self, x: Tensor, weight_of_x: Tensor, share_of_y: Tensor) -> Tensor:
        """What `forward` computes of [x, y], [..., x_dim] -> [..., out_dim]."""
        rows = F.linear(x.to(weight_of_x.dtype), weight_of_x)
        # Summed in float32: rounded once, and a compiler adds it up in the norm's kernel.
        rows = (rows.float() + share_of_y.float()).to(rows.dtype)
        for layer in (*self.hidden[0][1:], *self.hidden[1:]):
            rows = layer(rows)
        return rows if self.out is None else self.out(rows)
