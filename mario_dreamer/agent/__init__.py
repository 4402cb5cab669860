"""The agent: world model, actor, critic, imagination, returns, policy."""

from mario_dreamer.agent.critic import SlowCritic
from mario_dreamer.agent.distribution_module import DistributionModule
from mario_dreamer.agent.imagination import Imagination
from mario_dreamer.agent.policy import Policy
from mario_dreamer.agent.returns import Returns
from mario_dreamer.agent.world_model import WorldModel
from mario_dreamer.agent.world_model_env import WorldModelEnv

__all__ = [
    "DistributionModule", "Imagination", "Policy", "Returns", "SlowCritic", "WorldModel",
    "WorldModelEnv",
]  # fmt: skip
