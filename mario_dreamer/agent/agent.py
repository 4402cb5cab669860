"""World model, actor and critic of a run."""

from __future__ import annotations

from dataclasses import dataclass

from mario_dreamer.agent.distribution_module import DistributionModule
from mario_dreamer.agent.world_model import WorldModel


@dataclass(frozen=True)
class Agent:
    """The networks of a run.

    Args:
        world_model: encoder, RSSM, decoders, reward and continue heads.
        actor: feat [..., F] -> distribution over a_t, [..., A].
        critic: feat [..., F] -> distribution over the return v_t, [..., 1].
    """

    world_model: WorldModel
    actor: DistributionModule
    critic: DistributionModule
