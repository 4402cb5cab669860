"""Latent usage: which of the S x K classes the posterior takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mario_dreamer import keys
from mario_dreamer.distributions.onehot import OneHotCategorical
from mario_dreamer.reporting.episodes import Watched


def usage(watched: Sequence[Watched], unimix: float = 0.0) -> Tensor:
    """Average the posterior over all frames.

    Args:
        unimix: share of uniform probability in the posterior.

    Returns:
        [S, K], each row adds up to 1.
    """
    logits = torch.cat([seen.states[keys.POST_LOGITS] for seen in watched])  # [M, S, K]
    return OneHotCategorical(logits, unimix).probs.mean(0)


def live_classes(shares: Tensor, threshold: float = 0.01) -> int:
    """Count the classes taken more often than `threshold` of the time, of [S, K] shares."""
    return int((shares > threshold).sum())


def effective_classes(shares: Tensor) -> Tensor:
    """How many classes each categorical uses, [S]: exp(entropy of its shares); 1 means it is dead.

    >>> effective_classes(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])).tolist()
    [2.0, 1.0]
    """
    return torch.special.entr(shares).sum(-1).exp()
