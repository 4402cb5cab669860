"""KL divergence of any two distributions, balanced between posterior and prior."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributions import kl_divergence


def sum_event(nats: Tensor, dims: int) -> Tensor:
    """Sum over all but the first `dims` dimensions."""
    return nats.flatten(dims).sum(-1) if nats.ndim > dims else nats


def balanced_kl(
    post: Any,
    prior: Any,
    free_nats: float = 1.0,
    fixed: tuple[Any, Any] | None = None,
    dims: int = 2,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the KL of posterior q and prior p twice, each time with one of them held fixed.

    Paper: arXiv:2301.04104, "World model learning".

        dyn = max(free_nats, KL[ sg(q) || p ])     trains the prior
        rep = max(free_nats, KL[ q || sg(p) ])     trains the posterior

    The max is taken on the KL summed over the latent, before any mean.

    Args:
        post, prior: q and p, distributions over [*batch, ...].
        free_nats: a KL below this many nats has no gradient.
        fixed: q and p without a gradient; None: their `detach()`.
        dims: number of batch dimensions.

    Returns:
        dyn, rep and the KL before the max, [*batch] each, in nats; the last without a gradient.
    """
    fixed_post, fixed_prior = fixed or (post.detach(), prior.detach())
    pairs = (fixed_post, prior), (post, fixed_prior)
    dyn, rep = (sum_event(kl_divergence(q, p), dims) for q, p in pairs)
    return dyn.clamp_min(free_nats), rep.clamp_min(free_nats), dyn.detach()
