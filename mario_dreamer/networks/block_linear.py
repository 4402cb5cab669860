"""A linear layer with a block-diagonal weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mario_dreamer.networks.initialisation import init_


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
