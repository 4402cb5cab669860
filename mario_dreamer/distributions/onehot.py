"""OneHotCategorical: one choice out of K, written as a one-hot vector."""

from __future__ import annotations

import copy

import torch
from torch import Tensor


class OneHotCategorical:
    """Choose one of K: a category of the latent state, or an action.

    Paper: arXiv:2301.04104, "World model learning" (unimix, straight-through gradients).

        p = (1 - unimix) * softmax(logits) + unimix / K

    The mixture is what is sampled, scored and compared: `probs` and `logits` both belong to it, so
    with unimix > 0 no class ever has probability 0 and no KL is infinite.

    Args:
        logits: unnormalised, [..., K], any float type; the maths is done in float32.
        unimix: share of the uniform distribution, in [0, 1].
    """

    def __init__(self, logits: Tensor, unimix: float = 0.0) -> None:
        logits = logits.float()
        if unimix == 0.0:
            self._logits: Tensor | None = logits.log_softmax(-1)
            self.probs = self._logits.exp()
        else:
            self._logits = None  # a logarithm that a mere sample does not need
            self.probs = torch.add(unimix / logits.shape[-1], logits.softmax(-1), alpha=1 - unimix)

    @property
    def logits(self) -> Tensor:
        """Log-probabilities of the mixture, [..., K]."""
        if self._logits is None:
            self._logits = self.probs.log()
        return self._logits

    @property
    def mean(self) -> Tensor:
        """The probabilities, [..., K]."""
        return self.probs

    @property
    def mode(self) -> Tensor:
        """The likeliest class as a one-hot, [..., K] float32, without a gradient."""
        return _one_hot(self.probs.detach())

    def sample(self) -> Tensor:
        """Draw a class as a one-hot, [..., K] float32, without a gradient."""
        # The class whose clock rings first: argmax p / Exp(1) is distributed as p. It is the
        # Gumbel-max trick with one logarithm less, and has no host sync.
        probs = self.probs.detach()
        return _one_hot(probs / torch.empty_like(probs).exponential_())

    def rsample(self) -> Tensor:
        """Draw a one-hot, [..., K], whose gradient passes straight through to the probabilities.

        z = onehot + p - sg(p)
        """
        onehot = self.sample()
        if not self.probs.requires_grad:
            return onehot
        return onehot + (self.probs - self.probs.detach())  # the bracket is exactly 0

    def log_prob(self, onehot: Tensor) -> Tensor:
        """Log-probability of a one-hot [..., K], summed over classes, [...]."""
        return (self.logits * onehot).sum(-1)  # [..., K] -> [...]

    def entropy(self) -> Tensor:
        """Entropy in nats, [...]."""
        return -(self.probs * self.logits).sum(-1)  # [..., K] -> [...]

    def kl(self, other: OneHotCategorical) -> Tensor:
        """KL[self || other] in nats, [...]; gradients flow into both unless detached."""
        return (self.probs * (self.logits - other.logits)).sum(-1)  # [..., K] -> [...]

    def detach(self) -> OneHotCategorical:
        """The same distribution, cut off from the graph; shares what was computed already."""
        logits = self.logits  # once, for both copies
        detached = copy.copy(self)
        detached.probs, detached._logits = self.probs.detach(), logits.detach()
        return detached


def _one_hot(scores: Tensor) -> Tensor:
    return torch.zeros_like(scores).scatter_(-1, scores.argmax(-1, keepdim=True), 1.0)
