"""Bernoulli, MSE and SymlogMSE, for the continue flag, images and vectors."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.distributions import register_kl

from mario_dreamer.checks import has_functorch
from mario_dreamer.distributions.twohot import symexp, symlog
from mario_dreamer.distributions.unchecked import Unchecked
from mario_dreamer.precision import widened


class Bernoulli(Unchecked):
    """The probability that the episode goes on.

    Paper: arXiv:2301.04104, "World model learning" (continue predictor).

        log_prob(c) = c * log(sigmoid(l)) + (1 - c) * log(1 - sigmoid(l))

    Args:
        logits: l, [..., 1], any float type; the maths is done in float32, of float64 in float64.
    """

    TENSORS = ("logits",)

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits.shape)
        self.logits = widened(logits)

    @property
    def mean(self) -> Tensor:
        """Probability of yes, [..., 1] in [0, 1]."""
        return self.logits.sigmoid()

    @property
    def mode(self) -> Tensor:
        """1.0 where yes is likelier, else 0.0, [..., 1]."""
        return (self.logits > 0).to(self.logits.dtype)

    def sample(self, sample_shape: Size = Size()) -> Tensor:
        """Draw 0.0 or 1.0, [*sample_shape, ..., 1], without a gradient."""
        noise = torch.rand(self._extended_shape(sample_shape), device=self.logits.device)
        return (noise < self.mean).to(self.logits.dtype)

    def log_prob(self, label: Tensor) -> Tensor:
        """Log-likelihood of a label that may be soft, [..., 1] in [0, 1] -> [...]."""
        logits, label = torch.broadcast_tensors(self.logits, label.to(self.logits.dtype))
        loss = F.binary_cross_entropy_with_logits(logits, label, reduction="none")
        return -loss.squeeze(-1)  # [..., 1] -> [...]

    def entropy(self) -> Tensor:
        """Entropy in nats, [...]."""
        return -self.log_prob(self.mean)


@register_kl(Bernoulli, Bernoulli)
def _kl_bernoulli(p: Bernoulli, q: Bernoulli) -> Tensor:
    """KL[p || q] in nats, [...]."""
    return p.log_prob(p.mean) - q.log_prob(p.mean)


class MSE(Unchecked):
    """A mean whose log-probability is minus the squared distance.

    Paper: arXiv:2301.04104, "World model learning" (image reconstruction).

        log_prob(x) = -sum (mean - x)^2      no 1/2, summed over the event, not averaged

    Args:
        mean: [..., *event].
        event_dims: how many trailing dimensions are one event; 3 for an image [3, H, W].
    """

    TENSORS = ("loc",)

    def __init__(self, mean: Tensor, event_dims: int = 1) -> None:
        super().__init__(mean.shape, event_dims)
        self.loc, self.event_dims = widened(mean), event_dims

    @property
    def mean(self) -> Tensor:
        """The expected value, [..., *event]."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """The mean."""
        return self.mean

    def log_prob(self, x: Tensor) -> Tensor:
        """Minus the summed squared error, [..., *event] -> [...]."""
        x = x.to(self.loc.dtype)
        if has_functorch():
            return (self.loc - x).square().flatten(-self.event_dims).sum(-1).neg()
        return _SquaredDistance.apply(self.loc, x, self.event_dims).neg()


class _SquaredDistance(torch.autograd.Function):
    """sum (a - b)^2 over the last dimensions: one pass back where autograd's formula takes two."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, event_dims: int) -> Tensor:
        difference = a - b
        ctx.save_for_backward(difference)
        event = tuple(range(-event_dims, 0))
        return torch.linalg.vector_norm(difference, dim=event).square_()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (difference,) = ctx.saved_tensors
        shape = grad.shape + (1,) * (difference.dim() - grad.dim())
        towards_a = difference * (2 * grad).reshape(shape)
        return towards_a, -towards_a if ctx.needs_input_grad[1] else None, None


class SymlogMSE(MSE):
    """`MSE` in symlog space, for sensors of unknown scale.

    Paper: arXiv:2301.04104, "Robust predictions".

        log_prob(x) = -sum (mean - symlog(x))^2

    Args:
        mean: the prediction in symlog space, [..., V].
        event_dims: how many trailing dimensions are one event.
    """

    @property
    def mean(self) -> Tensor:
        """symexp of the prediction, [..., V]."""
        return symexp(self.loc)

    def log_prob(self, x: Tensor) -> Tensor:
        """Minus the summed squared error in symlog space, [..., V] -> [...]."""
        return super().log_prob(symlog(x.to(self.loc.dtype)))
