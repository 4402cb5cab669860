"""Sequence models: h_t = f(h_{t-1}, z_{t-1}, a_{t-1})."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mario_dreamer.networks.layers import BlockLinear, linear, normed
from mario_dreamer.networks.norms import make_norm


def gated_update(deter: Tensor, reset: Tensor, cand: Tensor, update: Tensor) -> Tensor:
    """Mix h_{t-1} with a candidate (GRU, with a bias of -1 on the update gate).

        u = sigmoid(update - 1)
        h_t = u * tanh(sigmoid(reset) * cand) + (1 - u) * h_{t-1}

    Args:
        deter: h_{t-1}, [..., D].
        reset, cand, update: before their nonlinearity, [..., D] each.

    Returns:
        h_t, [..., D], the type of deter: the state itself is never rounded to bfloat16.
    """
    cand = torch.tanh(torch.sigmoid(reset) * cand)
    return torch.lerp(deter, cand.to(deter.dtype), torch.sigmoid(update - 1).to(deter.dtype))


class BlockGRU(nn.Module):
    """A GRU in blocks: each reads all of h, z and a, and writes its own part of h.

    Paper: arXiv:2301.04104, "Model sizes" (block-diagonal GRU).

        x = [embed(h), embed(z), embed(a)]                           embed = SiLU(norm(Linear))
        x = SiLU(norm(BlockLinear([h of the block, x])))             per block
        reset, cand, update = BlockLinear(x), then `gated_update`    per block

    Args:
        deter_dim: D, a multiple of blocks.
        stoch_shape: (S, K).
        action_dim: A.
        hidden_dim: width of each of the three embeddings.
        blocks: g.
        norm, init: see `MLP`.

    Raises:
        ValueError: deter_dim is not a multiple of blocks.
    """

    def __init__(
        self,
        deter_dim: int,
        stoch_shape: Sequence[int],
        action_dim: int,
        hidden_dim: int,
        blocks: int = 8,
        norm: str = "rms",
        init: str = "fan_in",
    ) -> None:
        super().__init__()
        self.blocks = blocks
        self.embed_deter = normed(deter_dim, hidden_dim, norm, init)
        self.embed_stoch = normed(math.prod(stoch_shape), hidden_dim, norm, init)
        self.embed_action = normed(action_dim, hidden_dim, norm, init)
        self.mix = nn.Sequential(
            BlockLinear(deter_dim + blocks * 3 * hidden_dim, deter_dim, blocks, init),
            make_norm(norm, deter_dim),
            nn.SiLU(),
        )
        self.gates = BlockLinear(deter_dim, 3 * deter_dim, blocks, init)

    def read_action(self, action: Tensor) -> Tensor:
        """embed(a) of a_{t-1}, [..., A] -> [..., hidden_dim]; it does not wait for h_{t-1}."""
        return self.embed_action(action)

    def forward(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        """Take one step.

        Args:
            deter: h_{t-1}, [..., D].
            stoch: z_{t-1}, [..., S, K].
            action: what `read_action` made of a_{t-1}, [..., hidden_dim].

        Returns:
            h_t, [..., D].
        """
        shared = [self.embed_deter(deter), self.embed_stoch(stoch.flatten(-2)), action]
        shared = torch.cat(shared, -1)  # [..., 3 * hidden]
        shared = shared.unsqueeze(-2).expand(*shared.shape[:-1], self.blocks, -1)
        own = deter.unflatten(-1, (self.blocks, -1)).to(shared.dtype)  # [..., g, D / g]
        x = self.mix(torch.cat([own, shared], -1).flatten(-2))
        gates = self.gates(x).unflatten(-1, (self.blocks, 3, -1))  # [..., g, 3, D / g]
        return gated_update(deter, *(gate.flatten(-2) for gate in gates.unbind(-2)))


class GRU(nn.Module):
    """One dense GRU whose three gates share a norm.

    Paper: arXiv:2301.04104v1, "World model learning" (recurrent state-space model).

        x = SiLU(norm(Linear([z, a])))
        reset, cand, update = norm(Linear([x, h])), then `gated_update`

    Args:
        hidden_dim: width of x.
        deter_dim, stoch_shape, action_dim, norm, init: see `BlockGRU`.
    """

    def __init__(
        self,
        deter_dim: int,
        stoch_shape: Sequence[int],
        action_dim: int,
        hidden_dim: int,
        norm: str = "layer",
        init: str = "fan_avg",
    ) -> None:
        super().__init__()
        self.embed = normed(math.prod(stoch_shape) + action_dim, hidden_dim, norm, init)
        gate_norm = make_norm(norm, 3 * deter_dim)
        bias = not gate_norm.has_shift
        self.gates = nn.Sequential(
            linear(hidden_dim + deter_dim, 3 * deter_dim, bias, init), gate_norm
        )

    def forward(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        """Take one step; shapes as in `BlockGRU.forward`, but action: a_{t-1}, [..., A]."""
        x = self.embed(torch.cat([stoch.flatten(-2), action.to(stoch.dtype)], -1))
        gates = self.gates(torch.cat([x, deter.to(x.dtype)], -1))
        return gated_update(deter, *gates.chunk(3, -1))
