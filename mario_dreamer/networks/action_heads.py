"""Action heads: the actor's distribution over actions, one class for each kind of action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Uniform

from mario_dreamer.distributions.continuous import (
    Normal,
    TanhNormal,
    TruncatedNormal,
    normal_quantile,
)
from mario_dreamer.distributions.onehot import MultiOneHotCategorical, OneHotCategorical
from mario_dreamer.networks.heads import Head


class ActionHead(Head):
    """An MLP on [h_t, z_t] that gives the parameters of a distribution over actions.

    Args:
        feat_dim: D + S * K.
        action_dim: A.
        layers, outscale, mlp: see `Head`; a small outscale begins almost uniform.
        params_per_action: parameters of the distribution for each of the A numbers.

    Attributes:
        kind: the kind of action spec that it fits, see `config.actions.describe_actions`.
        action_dtype: of the actions that the environment takes.
        noise_dim: uniform numbers that `draw` takes.
    """

    kind: str
    action_dtype = torch.int64
    noise_dim: int

    def __init__(
        self,
        feat_dim: int,
        action_dim: int,
        layers: int = 3,
        outscale: float = 0.01,
        params_per_action: int = 1,
        **mlp: Any,
    ) -> None:
        super().__init__(feat_dim, params_per_action * action_dim, layers, outscale=outscale, **mlp)
        self.sizes["A"] = self.noise_dim = action_dim

    def uniform(self, params: Tensor) -> Any:
        """A distribution without preferences, for the random steps before learning."""
        return self.dist(torch.zeros_like(params))

    def draw(self, params: Tensor, noise: Tensor) -> Tensor:
        """Draw the action that uniform numbers in [0, 1), [..., noise_dim], stand for, [..., A]."""
        raise NotImplementedError


class OneHotHead(ActionHead):
    """Choose one of A actions.

    Paper: arXiv:2301.04104, "Actor learning".

    Args:
        unimix: share of the uniform distribution in the policy, in [0, 1].
        feat_dim, action_dim, mlp: see `ActionHead`.
    """

    kind = "onehot"

    def __init__(self, feat_dim: int, action_dim: int, unimix: float = 0.0, **mlp: Any) -> None:
        super().__init__(feat_dim, action_dim, **mlp)
        self.unimix, self.noise_dim = unimix, 1

    def dist(self, params: Tensor) -> OneHotCategorical:
        """Logits [..., A] to a distribution over one-hot actions [..., A]."""
        return OneHotCategorical(params, self.unimix)

    def draw(self, params: Tensor, noise: Tensor) -> Tensor:
        """See `ActionHead`: the class whose share of [0, 1) the number falls into."""
        return self.dist(params).sample(noise=noise)


class MultiOneHotHead(OneHotHead):
    """Make several choices at once, each with its own number of options (MultiDiscrete).

    Args:
        choices: options of each choice; A is their sum.
        feat_dim, options: see `OneHotHead`.
    """

    kind = "multi_onehot"

    def __init__(self, feat_dim: int, choices: Sequence[int], **options: Any) -> None:
        super().__init__(feat_dim, sum(choices), **options)
        self.choices, self.noise_dim = tuple(choices), len(choices)

    def dist(self, params: Tensor) -> MultiOneHotCategorical:
        """Logits [..., A] to a distribution over concatenated one-hots [..., A]."""
        return MultiOneHotCategorical(params, self.choices, self.unimix)


class IndependentBernoulli(Independent):
    """A distribution over [..., A] of 0 and 1; torch's own mode is nan at a probability of 1/2."""

    has_rsample = True

    @property
    def probs(self) -> Tensor:
        """Probability of each 1, [..., A]."""
        return self.base_dist.probs

    def rsample(self, sample_shape: Size = Size()) -> Tensor:
        """Draw with a gradient straight through to the probabilities, [*sample_shape, ..., A]."""
        return self.sample(sample_shape) + (self.probs - self.probs.detach())

    @property
    def deterministic_sample(self) -> Tensor:
        """The likelier of 0 and 1, [..., A]."""
        return (self.base_dist.logits > 0).to(self.base_dist.logits.dtype)


class BernoulliActionHead(ActionHead):
    """Press or release each of A buttons (MultiBinary); arguments as of `ActionHead`."""

    kind = "binary"

    def dist(self, params: Tensor) -> IndependentBernoulli:
        """Logits [..., A] to a distribution over [..., A] of 0 and 1; log_prob is [...]."""
        return IndependentBernoulli(Bernoulli(logits=params, validate_args=False), 1)

    def draw(self, params: Tensor, noise: Tensor) -> Tensor:
        """See `ActionHead`: a button is pressed where its number is below its probability."""
        return (noise < params.sigmoid()).to(params.dtype)


class BoundedNormalHead(ActionHead):
    """Choose A numbers around a mean in (-1, 1); samples may lie outside.

    Paper: arXiv:2301.04104, "Actor learning" (continuous control; Nature code).

        mean = tanh(m),  std = min_std + (max_std - min_std) * sigmoid(s + 2)

    The environment clips an action to [-1, 1] before it scales it (`envs.actions`).

    Args:
        min_std, max_std: range of the standard deviation, above 0.
        feat_dim, action_dim, mlp: see `ActionHead`.
    """

    kind = "continuous"
    action_dtype = torch.float32

    def __init__(
        self,
        feat_dim: int,
        action_dim: int,
        *,
        min_std: float = 0.1,
        max_std: float = 1.0,
        **mlp: Any,
    ) -> None:
        super().__init__(feat_dim, action_dim, params_per_action=2, **mlp)
        self.min_std, self.max_std = min_std, max_std

    def dist(self, params: Tensor) -> Distribution:
        """Parameters [..., 2 A] to a distribution over [..., A]; log_prob is [...]."""
        mean, std = self._mean_and_std(params)
        return Independent(Normal(mean.tanh(), std), 1, validate_args=False)

    def draw(self, params: Tensor, noise: Tensor) -> Tensor:
        """See `ActionHead`: the quantile of each number."""
        mean, std = self._mean_and_std(params)
        return mean.tanh() + std * normal_quantile(noise)

    def uniform(self, params: Tensor) -> Distribution:
        """Uniform over [-1, 1], [..., A]."""
        one = torch.ones_like(params.chunk(2, -1)[0])
        return Independent(Uniform(-one, one, validate_args=False), 1, validate_args=False)

    def _mean_and_std(self, params: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = params.chunk(2, -1)  # [..., A] each
        return mean, self.min_std + (self.max_std - self.min_std) * torch.sigmoid(std + 2.0)


class TanhNormalHead(BoundedNormalHead):
    """Choose A numbers in (-1, 1): tanh of a normal sample; its entropy is sampled."""

    def dist(self, params: Tensor) -> TanhNormal:
        """Parameters [..., 2 A] to a distribution over [..., A]; log_prob is [...]."""
        return TanhNormal(*self._mean_and_std(params))

    def draw(self, params: Tensor, noise: Tensor) -> Tensor:
        """See `ActionHead`: the quantile of each number."""
        mean, std = self._mean_and_std(params)
        return torch.tanh(mean + std * normal_quantile(noise))


class TruncatedNormalHead(BoundedNormalHead):
    """Choose A numbers in [-1, 1]: a normal distribution cut off at both ends."""

    def dist(self, params: Tensor) -> TruncatedNormal:
        """Parameters [..., 2 A] to a distribution over [..., A]; log_prob is [...]."""
        mean, std = self._mean_and_std(params)
        return TruncatedNormal(mean.tanh(), std)

    def draw(self, params: Tensor, noise: Tensor) -> Tensor:
        """See `ActionHead`: the quantile of each number, between those of -1 and 1."""
        return self.dist(params).rsample(noise=noise)


HEADS: dict[str, type[ActionHead]] = {
    "onehot": OneHotHead,
    "multi_onehot": MultiOneHotHead,
    "binary": BernoulliActionHead,
    "continuous": BoundedNormalHead,
}


def make_action_head(
    feat_dim: int,
    kind: str,
    unimix: float = 0.0,
    min_std: float = 0.1,
    max_std: float = 1.0,
    **sizes: Any,
) -> ActionHead:
    """Make the head that fits a kind of action, one of `HEADS`.

    Args:
        feat_dim: D + S * K.
        kind: a key of `HEADS`.
        unimix: of one-hot actions. min_std, max_std: of continuous ones.
        sizes: action_dim or choices, layers, units, outscale, norm, init.
    """
    if kind == "continuous":
        sizes |= {"min_std": min_std, "max_std": max_std}
    elif kind != "binary":
        sizes["unimix"] = unimix
    return HEADS[kind](feat_dim, **sizes)
