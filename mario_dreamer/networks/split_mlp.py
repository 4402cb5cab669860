"""An MLP of two inputs, one of which is known long before the other."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mario_dreamer.networks.layers import MLP


class SplitMLP(MLP):
    """Read x and y side by side; the first layer's share of y can be computed on its own.

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
