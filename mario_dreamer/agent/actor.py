"""The actor: a distribution over actions given the latent state."""

from __future__ import annotations

from torch import nn

from mario_dreamer import keys
from mario_dreamer.agent.distribution_module import DistributionModule

__all__ = ["make_actor"]


def make_actor(head: nn.Module) -> DistributionModule:
    """Wrap an actor head: feat [..., F] -> distribution over a_t, one-hot [..., A]."""
    return DistributionModule(head, [keys.FEAT], keys.ACTION)
