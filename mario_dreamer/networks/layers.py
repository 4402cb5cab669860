"""Layers: linear, MLP."""

from __future__ import annotations

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
