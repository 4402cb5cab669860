"""The slow critic: a running average of the critic."""

from __future__ import annotations

import copy

import torch

from mario_dreamer import keys
from mario_dreamer.agent.distribution_module import DistributionModule


class SlowCritic(DistributionModule):
    """A copy of the critic that follows it slowly, so that its own targets stay in place.

    Paper: arXiv:2301.04104, "Critic learning".

        slow <- (1 - rate) * slow + rate * critic     after every update; a copy at first

    Args:
        critic: the critic to follow; its parameters are copied, never shared.
        rate: share of the critic taken over at each update, in (0, 1].
    """

    def __init__(self, critic: DistributionModule, rate: float = 0.02) -> None:
        super().__init__(copy.deepcopy(critic.head), critic.in_keys, keys.SLOW_VALUE)
        self.requires_grad_(False)
        self.rate = rate

    @torch.no_grad()
    def follow(self, critic: DistributionModule) -> None:
        """Move one step towards `critic`."""
        torch._foreach_lerp_(
            list(self.head.parameters()), list(critic.head.parameters()), self.rate
        )
