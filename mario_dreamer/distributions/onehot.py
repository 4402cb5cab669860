"""One-hot distributions: one choice out of K, or several choices at once."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Size, Tensor
from torch.distributions import constraints, register_kl

from mario_dreamer.distributions.unchecked import Unchecked
from mario_dreamer.precision import widened


class OneHotCategorical(Unchecked):
    """One of K classes: a category of the latent state, or an action.

    Paper: arXiv:2301.04104, "World model learning" (unimix, straight-through gradients).

        p = (1 - unimix) * softmax(logits) + unimix / K

    The mixture is what is sampled, scored and compared: `probs` and `logits` both belong to it, so
    with unimix > 0 no class ever has probability 0 and no KL is infinite.

    Args:
        logits: unnormalised, [..., K], any float type; the maths is done in float32, of float64 in
            float64; samples have that type, too.
        unimix: share of the uniform distribution, in [0, 1].

    Raises:
        ValueError: unimix lies outside [0, 1].
    """

    has_rsample = True
    support = constraints.one_hot
    TENSORS = ("probs", "_logits")

    def __init__(self, logits: Tensor, unimix: float = 0.0) -> None:
        if not 0 <= unimix <= 1:
            raise ValueError(f"unimix must lie in [0, 1]; got {unimix}.")
        super().__init__(logits.shape)
        logits = widened(logits)
        if unimix == 0.0:
            # A logit of -inf, a class ruled out, counts as the least finite one: 0 * inf is nan.
            least = torch.finfo(logits.dtype).min
            self._logits: Tensor | None = logits.log_softmax(-1).clamp_min(least)
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
        """The likeliest class as a one-hot, [..., K], without a gradient."""
        probs = self.probs.detach()
        return _one_hot(probs, probs.argmax(-1, keepdim=True))

    def sample(self, sample_shape: Size = Size(), noise: Tensor | None = None) -> Tensor:
        """Draw a class as a one-hot, [*sample_shape, ..., K], without a gradient.

        Args:
            sample_shape: of independent draws, in front.
            noise: uniform numbers in [0, 1) to draw with, [..., 1]; None makes them here.
        """
        # One uniform number per choice, and the class whose share of [0, 1) it falls into: three
        # times as fast as Gumbel-max on CPU, no host sync, and safe in a CUDA graph.
        cumulated = self.probs.detach().cumsum(-1)  # [..., K]
        if sample_shape:
            cumulated = cumulated.expand(self._extended_shape(sample_shape)).contiguous()
        if noise is None:
            noise = torch.rand_like(cumulated[..., :1])
        noise = noise * cumulated[..., -1:]  # [..., 1]
        passed = (cumulated <= noise).sum(-1, keepdim=True)
        return _one_hot(cumulated, passed.clamp_max(cumulated.shape[-1] - 1))

    def rsample(self, sample_shape: Size = Size(), noise: Tensor | None = None) -> Tensor:
        """Draw a one-hot whose gradient passes straight through to the probabilities.

        z = onehot + p - sg(p)

        Args:
            sample_shape, noise: see `sample`.
        """
        onehot = self.sample(sample_shape, noise)
        if not self.probs.requires_grad:
            return onehot
        return onehot + (self.probs - self.probs.detach())  # the bracket is exactly 0

    def log_prob(self, onehot: Tensor) -> Tensor:
        """Log-probability of a one-hot [..., K], summed over classes, [...]."""
        return (self.logits * onehot).sum(-1)  # [..., K] -> [...]

    def entropy(self) -> Tensor:
        """Entropy in nats, [...]."""
        return -(self.probs * self.logits).sum(-1)  # [..., K] -> [...]

    def masked(self, mask: Tensor) -> Self:
        """The same over the classes that `mask`, [..., K] bool, allows; over all if it allows none."""
        allowed = mask | ~mask.any(-1, keepdim=True)
        return type(self)(self.logits.masked_fill(~allowed, -math.inf))

    def detach(self) -> Self:
        """See `Unchecked`; computes the logits first, once for both."""
        self._logits = self.logits
        return super().detach()


@register_kl(OneHotCategorical, OneHotCategorical)
def _kl_one_hot(p: OneHotCategorical, q: OneHotCategorical) -> Tensor:
    """KL[p || q] in nats, [...]; gradients flow into both unless detached."""
    return (p.probs * (p.logits - q.logits)).sum(-1)  # [..., K] -> [...]


def _one_hot(like: Tensor, index: Tensor) -> Tensor:
    return torch.zeros_like(like).scatter_(-1, index, 1.0)


class MultiOneHotCategorical(Unchecked):
    """Several choices at once: one-hots of different sizes, one after the other.

    Args:
        logits: unnormalised, [..., A].
        choices: options of each choice; their sum is A.
        unimix: share of the uniform distribution in each choice, in [0, 1].
    """

    has_rsample = True

    def __init__(self, logits: Tensor, choices: Sequence[int], unimix: float = 0.0) -> None:
        super().__init__(logits.shape)
        self.choices = list(choices)
        self.parts = [OneHotCategorical(part, unimix) for part in logits.split(self.choices, -1)]

    @property
    def probs(self) -> Tensor:
        """Probabilities of all options, [..., A]; those of each choice sum to 1."""
        return torch.cat([part.probs for part in self.parts], -1)

    mean = probs

    @property
    def mode(self) -> Tensor:
        """The likeliest option of each choice, [..., A] of 0 and 1."""
        return torch.cat([part.mode for part in self.parts], -1)

    def sample(self, sample_shape: Size = Size(), noise: Tensor | None = None) -> Tensor:
        """Draw an option of each choice, [*sample_shape, ..., A] of 0 and 1, without a gradient.

        Args:
            sample_shape: of independent draws, in front.
            noise: uniform numbers in [0, 1) to draw with, [..., choices]; None makes them here.
        """
        drawn = [None] * len(self.parts) if noise is None else noise.split(1, -1)
        pairs = zip(self.parts, drawn, strict=True)
        return torch.cat([part.sample(sample_shape, own) for part, own in pairs], -1)

    def rsample(self, sample_shape: Size = Size()) -> Tensor:
        """Draw with straight-through gradients, see `OneHotCategorical.rsample`."""
        return torch.cat([part.rsample(sample_shape) for part in self.parts], -1)

    def log_prob(self, onehots: Tensor) -> Tensor:
        """Log-probability of all choices together, [..., A] -> [...]."""
        chosen = onehots.split(self.choices, -1)
        return sum(part.log_prob(x) for part, x in zip(self.parts, chosen, strict=True))

    def entropy(self) -> Tensor:
        """Entropy of all choices together in nats, [...]."""
        return sum(part.entropy() for part in self.parts)

    def masked(self, mask: Tensor) -> Self:
        """The same distribution over what `mask`, [..., A] bool, allows."""
        allowed = mask.split(self.choices, -1)
        return self._of([p.masked(m) for p, m in zip(self.parts, allowed, strict=True)])

    def detach(self) -> Self:
        """See `Unchecked`."""
        return self._of([part.detach() for part in self.parts])

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> Self:
        """See `Unchecked`."""
        expanded = self._of([part.expand(batch_shape) for part in self.parts])
        expanded._batch_shape = expanded.parts[0].batch_shape
        return expanded

    def _of(self, parts: list[OneHotCategorical]) -> Self:
        same = copy.copy(self)
        same.parts = parts
        return same


@register_kl(MultiOneHotCategorical, MultiOneHotCategorical)
def _kl_multi(p: MultiOneHotCategorical, q: MultiOneHotCategorical) -> Tensor:
    """KL of all choices together in nats, [...]."""
    return sum(_kl_one_hot(*pair) for pair in zip(p.parts, q.parts, strict=True))
