"""Bernoulli, MSE and SymlogMSE, for the continue flag, images and vectors."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mario_dreamer.distributions.twohot import symexp, symlog


class Bernoulli:
    """The probability that the episode goes on.

    Paper: arXiv:2301.04104, "World model learning" (continue predictor).

        log_prob(c) = c * log(sigmoid(l)) + (1 - c) * log(1 - sigmoid(l))

    Args:
        logit: l, [..., 1], any float type; the maths is done in float32.
    """

    def __init__(self, logit: Tensor) -> None:
        self.logit = logit.float()

    @property
    def mean(self) -> Tensor:
        """Probability of yes, [..., 1] in [0, 1]."""
        return self.logit.sigmoid()

    @property
    def mode(self) -> Tensor:
        """1.0 where yes is likelier, else 0.0, [..., 1]."""
        return (self.logit > 0).float()

    def sample(self) -> Tensor:
        """Draw 0.0 or 1.0, [..., 1]."""
        return (torch.rand_like(self.logit) < self.mean).float()

    def log_prob(self, label: Tensor) -> Tensor:
        """Log-likelihood of a label that may be soft, [..., 1] in [0, 1] -> [...]."""
        loss = F.binary_cross_entropy_with_logits(self.logit, label.float(), reduction="none")
        return -loss.squeeze(-1)  # [..., 1] -> [...]

    def entropy(self) -> Tensor:
        """Entropy in nats, [...]."""
        return -self.log_prob(self.mean)


class MSE:
    """A mean whose log-probability is minus the squared distance.

    Paper: arXiv:2301.04104, "World model learning" (image reconstruction).

        log_prob(x) = -sum (mean - x)^2      no 1/2, summed over the event, not averaged

    Args:
        mean: [..., *event].
        event_dims: how many trailing dimensions are one event; 3 for an image [3, H, W].
    """

    def __init__(self, mean: Tensor, event_dims: int = 1) -> None:
        self.mean, self.event_dims = mean.float(), event_dims

    @property
    def mode(self) -> Tensor:
        """The mean."""
        return self.mean

    def log_prob(self, x: Tensor) -> Tensor:
        """Minus the summed squared error, [..., *event] -> [...]."""
        return _SquaredDistance.apply(self.mean, x.float(), self.event_dims).neg()


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

    def __init__(self, mean: Tensor, event_dims: int = 1) -> None:
        super().__init__(symexp(mean.float()), event_dims)
        self.squashed = MSE(mean, event_dims)

    def log_prob(self, x: Tensor) -> Tensor:
        """Minus the summed squared error in symlog space, [..., V] -> [...]."""
        return self.squashed.log_prob(symlog(x.float()))
