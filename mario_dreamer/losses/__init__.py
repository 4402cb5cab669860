"""The losses of DreamerV3 as TorchRL `LossModule`s."""

from mario_dreamer.losses.actor import ActorLoss
from mario_dreamer.losses.critic import CriticLoss
from mario_dreamer.losses.targets import Discount, lambda_return
from mario_dreamer.losses.world_model import WorldModelLoss

__all__ = ["ActorLoss", "CriticLoss", "Discount", "WorldModelLoss", "lambda_return"]
