"""Normal distributions of actions: plain, squashed by tanh, or cut off at both ends.

torch's `Normal.sample` reads the smallest standard deviation back to the host to check it, and
TorchRL's `TanhNormal` and `TruncatedNormal` read their bounds: the host waits for the GPU, and no
CUDA graph can hold them. These read nothing back.
"""

from __future__ import annotations

import math

import torch
from torch import Size, Tensor, distributions
from torch.distributions import Independent, TanhTransform, TransformedDistribution

from mario_dreamer.distributions.unchecked import Unchecked
from mario_dreamer.precision import widened


class Normal(distributions.Normal):
    """torch's normal distribution, unchecked; loc and scale (above 0) of one shape."""

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(loc, scale, validate_args=False)

    @torch.no_grad()
    def sample(self, sample_shape: Size = Size()) -> Tensor:
        """Draw without a gradient, [*sample_shape, ...]."""
        return self.rsample(sample_shape)

    def expand(self, batch_shape: Size, _instance: None = None) -> Normal:
        """See `Unchecked`."""
        return Normal(self.loc.expand(batch_shape), self.scale.expand(batch_shape))


class _Tanh(TanhTransform):
    """tanh whose inverse is finite at -1 and 1, where a large sample is rounded to."""

    def _inverse(self, y: Tensor) -> Tensor:
        return y.clamp(-1.0 + 2.0**-24, 1.0 - 2.0**-24).atanh()


class TanhNormal(TransformedDistribution):
    """A numbers in [-1, 1], each the tanh of a normal sample; it has no closed entropy.

        log_prob(y) = log N(atanh(y); loc, scale) - log(1 - y^2)

    Of the numbers that `rsample` drew last, log_prob knows atanh(y) exactly, also near -1 and 1.

    Args:
        loc, scale: mean and standard deviation (above 0) before tanh, [..., A], any float type;
            the maths is done in float32, of float64 in float64.
    """

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.loc, self.scale = widened(loc), widened(scale)
        base = Independent(Normal(self.loc, self.scale), 1)
        super().__init__(base, _Tanh(cache_size=1), validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Average of 64 equally likely numbers, [..., A]."""
        noise = normal_quantile((torch.arange(64, device=self.loc.device) + 0.5) / 64)
        return (self.loc[..., None] + self.scale[..., None] * noise).tanh().mean(-1)

    @property
    def mode(self) -> Tensor:
        """tanh(loc), the median, which is played as the likeliest action, [..., A]."""
        return self.loc.tanh()

    deterministic_sample = mode

    def expand(self, batch_shape: Size, _instance: None = None) -> TanhNormal:
        """See `Unchecked`."""
        shape = (*batch_shape, *self.event_shape)
        return TanhNormal(self.loc.expand(shape), self.scale.expand(shape))


class TruncatedNormal(Unchecked):
    """A numbers in [low, high], each from a normal distribution without its two ends.

        p(x) = phi((x - loc) / scale) / (scale * Z)   in [low, high], else 0
        Z = Phi(b) - Phi(a),  a = (low - loc) / scale,  b = (high - loc) / scale

    Args:
        loc: mean of the whole normal distribution, in [low, high], [..., A], any float type; the
            maths is done in float32, of float64 in float64.
        scale: its standard deviation, above 0, [..., A].
        low, high: the ends.
    """

    has_rsample = True
    TENSORS = ("loc", "scale", "a", "b", "below", "share")

    def __init__(self, loc: Tensor, scale: Tensor, low: float = -1.0, high: float = 1.0) -> None:
        loc, scale = widened(loc), widened(scale)
        self.loc, self.scale, self.low, self.high = loc, scale, low, high
        self.a, self.b = (low - loc) / scale, (high - loc) / scale
        self.below = torch.special.ndtr(self.a)  # share of the whole that lies below `low`
        self.share = torch.special.ndtr(self.b) - self.below  # Z
        super().__init__(loc.shape)

    @property
    def mean(self) -> Tensor:
        """loc + scale * (phi(a) - phi(b)) / Z, [..., A]."""
        return self.loc + self.scale * (_density(self.a) - _density(self.b)) / self.share

    @property
    def mode(self) -> Tensor:
        """The likeliest numbers: loc, [..., A]."""
        return self.loc

    def rsample(self, sample_shape: Size = Size(), noise: Tensor | None = None) -> Tensor:
        """Draw numbers with a gradient to loc and scale, [*sample_shape, ..., A].

        Args:
            sample_shape: of independent draws, in front.
            noise: uniform numbers in [0, 1) to draw with, of the result's shape; None makes them.
        """
        if noise is None:
            noise = torch.rand(self._extended_shape(sample_shape), device=self.loc.device)
        x = self.loc + self.scale * normal_quantile(self.below + self.share * noise)
        return x.clamp(self.low, self.high)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density summed over the A numbers, [...]; minus infinity outside [low, high]."""
        distance = (value - self.loc) / self.scale
        log_prob = -distance.square() / 2 - self._log_normaliser()
        inside = (value >= self.low) & (value <= self.high)
        return torch.where(inside, log_prob, -math.inf).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy in nats, summed over the A numbers, [...].

        log(sqrt(2 pi) * scale * Z) + 1/2 + (a phi(a) - b phi(b)) / (2 Z)
        """
        ends = (self.a * _density(self.a) - self.b * _density(self.b)) / (2 * self.share)
        return (self._log_normaliser() + 0.5 + ends).sum(-1)

    def _log_normaliser(self) -> Tensor:
        return (self.scale * self.share).log() + math.log(2 * math.pi) / 2


def _density(x: Tensor) -> Tensor:
    """The standard normal's density."""
    return (-x.square() / 2).exp() / math.sqrt(2 * math.pi)


def normal_quantile(share: Tensor) -> Tensor:
    """The standard normal's quantile; shares are kept off 0 and 1, where it is infinite.

    Args:
        share: in [0, 1], any shape.
    """
    return torch.special.ndtri(share.clamp(2.0**-24, 1.0 - 2.0**-24))
