"""What the page shows of one moment: numbers and pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from tensordict import TensorDictBase
from torch import Tensor

from mario_dreamer.envs.screens import to_rgb
from mario_dreamer.viewer.environment import LiveEnv
from mario_dreamer.viewer.inspector import Prediction, describe_policy, frame_error


@dataclass
class Frame:
    """All that is shown of one moment.

    Args:
        info: names to plain numbers, strings and lists.
        pictures: names to uint8 [H, W, C] tensors: screen, observation, decoded, foreseen, latent.
    """

    info: dict[str, Any]
    pictures: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        env: LiveEnv,
        observation: TensorDictBase,
        seen: Tensor,
        prediction: Prediction,
        action: Tensor | None,
        foreseen: Tensor | None,
    ) -> Self:
        """Show what the env and the agent are like now.

        Args:
            observation: the env's newest, [1].
            seen: its image that the agent looks at, uint8 [C, H, W].
            action: chosen next, [A]; None where the agent does not choose.
            foreseen: an image of this moment that was predicted before, [C, H, W].
        """
        pictures = {
            "screen": env.screen(observation),
            "observation": to_rgb(seen).permute(1, 2, 0),
            "decoded": to_rgb(prediction.frame).permute(1, 2, 0),
            "latent": (prediction.latent * 255).round().byte()[..., None],  # [S, K] -> [S, K, 1]
        }
        if foreseen is not None:
            pictures["foreseen"] = to_rgb(foreseen).permute(1, 2, 0)
        info = {
            "time": len(env.actions),
            "action": None if action is None else action.tolist(),
            **describe_policy(prediction.policy),
            "predicted_reward": prediction.reward,
            "reward": env.reward,
            "value": prediction.value,
            "cont": prediction.cont,
            "kl": prediction.kl,
            "decoded_error": frame_error(prediction.frame, seen),
            "foreseen_error": None if foreseen is None else frame_error(foreseen, seen),
            "classes": prediction.classes,
            "over": env.is_over,
            "terminated": env.is_terminated,
            "return": env.total_reward,
            "env": env.info(observation),
        }
        return cls(info, pictures)
