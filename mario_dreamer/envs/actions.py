"""Offer an env's actions as the agent writes them: one-hot, or numbers in [-1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torchrl.data import Binary, Bounded, Categorical, Composite, MultiCategorical, TensorSpec
from torchrl.envs import EnvBase, TransformedEnv
from torchrl.envs.transforms import ActionScaling, Transform

__all__ = ["ClippedActionScaling", "OneHotActions", "with_agent_actions"]


class ClippedActionScaling(ActionScaling):
    """Clip actions to [-1, 1], then scale them to the env's own range.

    a_env = low + (clip(a, -1, 1) + 1) / 2 * (high - low)
    """

    def _inv_apply_transform(self, action: Tensor) -> Tensor:
        return super()._inv_apply_transform(action.clamp(-1.0, 1.0))


class OneHotActions(Transform):
    """Turn one-hot actions into the indices that the env takes.

    For a `Categorical` action spec [..., A] becomes an index [...]; for a `MultiCategorical` one,
    whose choices lie one after the other in [..., A], it becomes [..., number of choices].

    Args:
        choices: options of each choice; None for a single one.
    """

    def __init__(self, choices: list[int] | None = None) -> None:
        super().__init__(in_keys_inv=["action"], out_keys_inv=["action"])
        self.choices = choices

    def _inv_apply_transform(self, action: Tensor) -> Tensor:
        if self.choices is None:
            return action.float().argmax(-1)
        return torch.stack([part.float().argmax(-1) for part in action.split(self.choices, -1)], -1)

    def transform_action_spec(self, action_spec: TensorSpec) -> TensorSpec:
        """Offer the one-hot spec of the same choices."""
        if not isinstance(action_spec, Composite):
            return action_spec.to_one_hot_spec()
        action_spec = action_spec.clone()
        action_spec["action"] = action_spec["action"].to_one_hot_spec()
        return action_spec


def with_agent_actions(env: EnvBase) -> EnvBase:
    """Append the transform that an env's action spec asks for, if any.

    Bounded numbers become [-1, 1], indices become one-hot. Numbers without bounds, one-hot and
    binary actions are played as the actor draws them.

    Args:
        env: its action spec is a single tensor, [N, ...].
    """
    spec = env.action_spec
    transform: Transform
    if isinstance(spec, Bounded) and spec.dtype.is_floating_point:
        bounds = torch.stack([spec.space.low, spec.space.high]).abs()
        if not bool((bounds < torch.finfo(spec.dtype).max).all()):
            return env
        transform = ClippedActionScaling()
    elif isinstance(spec, MultiCategorical):
        transform = OneHotActions(spec.nvec.reshape(-1, spec.shape[-1])[0].tolist())
    elif isinstance(spec, Categorical) and not isinstance(spec, Binary):
        transform = OneHotActions()
    else:
        return env
    return (
        env.append_transform(transform)
        if isinstance(env, TransformedEnv)
        else TransformedEnv(env, transform)
    )
