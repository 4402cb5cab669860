"""Heads on the latent state: reward, continuation and value."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mario_dreamer.distributions.simple import MSE, Bernoulli
from mario_dreamer.distributions.twohot import TwoHot, make_bins
from mario_dreamer.networks.layers import MLP
from mario_dreamer.precision import widened


class Head(nn.Module):
    """An MLP on [h_t, z_t] that gives the parameters of a distribution.

    Args:
        feat_dim: D + S * K.
        out_dim: number of parameters.
        layers: how many before the output layer.
        units: their width.
        outscale, norm, init: see `MLP`.
    """

    def __init__(
        self,
        feat_dim: int,
        out_dim: int,
        layers: int = 1,
        units: int = 256,
        outscale: float = 1.0,
        norm: str = "rms",
        init: str = "fan_in",
    ) -> None:
        super().__init__()
        self.sizes = {"F": feat_dim}  # what a loss checks before it calls the head
        self.mlp = MLP(feat_dim, units, layers, norm, out_dim, outscale, init)

    def forward(self, feat: Tensor) -> Tensor:
        """[h_t, z_t], [..., D + S * K], to parameters [..., out_dim], float32 or wider."""
        return widened(self.mlp(feat))

    def dist(self, params: Tensor) -> object:
        """The distribution of the parameters [..., out_dim]."""
        raise NotImplementedError


class TwoHotHead(Head):
    """Predict a scalar of any size: reward or value.

    Paper: arXiv:2301.04104, "Critic learning".

    Args:
        outscale: see `Head`; 0 makes an untrained head predict exactly 0.
        kind, bins, low, high: see `distributions.TwoHot`.
        feat_dim, mlp: see `Head`.

    Raises:
        ValueError: see `distributions.twohot.make_bins`.
    """

    def __init__(
        self,
        feat_dim: int,
        outscale: float = 0.0,
        kind: str = "symexp",
        bins: int = 255,
        low: float = -20.0,
        high: float = 20.0,
        **mlp: Any,
    ) -> None:
        positions = make_bins(kind, bins, low, high)
        super().__init__(feat_dim, bins, outscale=outscale, **mlp)
        self.kind = kind
        self.register_buffer("bins", positions, persistent=False)

    def dist(self, params: Tensor) -> TwoHot:
        """Logits [..., bins] to a distribution over [..., 1]."""
        return TwoHot(params, self.kind, self.bins)


class BernoulliHead(Head):
    """Predict whether the episode goes on; arguments as of `Head`.

    Paper: arXiv:2301.04104, "World model learning" (continue predictor).
    """

    def __init__(self, feat_dim: int, **mlp: Any) -> None:
        super().__init__(feat_dim, 1, **mlp)

    def dist(self, params: Tensor) -> Bernoulli:
        """Logit [..., 1] to a distribution over [..., 1]."""
        return Bernoulli(params)


class MSEHead(Head):
    """Predict a scalar by its mean alone, the plain way; arguments as of `Head`."""

    def __init__(self, feat_dim: int, outscale: float = 0.0, **mlp: Any) -> None:
        super().__init__(feat_dim, 1, outscale=outscale, **mlp)

    def dist(self, params: Tensor) -> MSE:
        """Mean [..., 1] to a distribution over [..., 1]."""
        return MSE(params)
