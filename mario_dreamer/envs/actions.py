"""Offer an env's actions as the agent writes them: one-hot, or numbers in [-1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torchrl.data import (
    Binary,
    Bounded,
    Categorical,
    Composite,
    MultiCategorical,
    MultiOneHot,
    OneHot,
    TensorSpec,
)
from torchrl.envs import EnvBase, TransformedEnv
from torchrl.envs.transforms import ActionMask, ActionScaling, Transform

from mario_dreamer.keys import ACTION_MASK


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


def is_scaled(spec: TensorSpec) -> bool:
    """Whether an env's actions are floats with bounds, which the agent writes in [-1, 1]."""
    if not isinstance(spec, Bounded) or not spec.dtype.is_floating_point:
        return False
    bounds = torch.stack([spec.space.low, spec.space.high]).abs()
    return bool((bounds < torch.finfo(spec.dtype).max).all())


def with_agent_actions(env: EnvBase) -> EnvBase:
    """Append the transforms that an env's action spec and its `action_mask` ask for, if any.

    Bounded numbers become [-1, 1], indices become one-hot. Numbers without bounds, one-hot and
    binary actions are played as the actor draws them. An observed mask goes into the action spec,
    so that the spec's random actions are legal too.

    Args:
        env: its action spec is a single tensor, [N, ...].

    Raises:
        ValueError: a mask of another shape than the one-hot actions, or of another kind of action.
    """
    spec = env.action_spec
    if is_scaled(spec):
        env = _append(env, ClippedActionScaling())
    elif isinstance(spec, MultiCategorical):
        env = _append(env, OneHotActions(spec.nvec.reshape(-1, spec.shape[-1])[0].tolist()))
    elif isinstance(spec, Categorical) and not isinstance(spec, Binary):
        env = _append(env, OneHotActions())
    mask = env.observation_spec.get(ACTION_MASK, None)
    if mask is None:
        return env
    spec = env.action_spec
    if not isinstance(spec, OneHot | MultiOneHot) or mask.shape != spec.shape:
        raise ValueError(
            f"env: {ACTION_MASK} {list(mask.shape)} does not fit the actions, "
            f"{type(spec).__name__} {list(spec.shape)}: one flag for each one-hot action. "
            "Reshape it, or drop it with torchrl.envs.ExcludeTransform."
        )
    return _append(env, ActionMask())


def _append(env: EnvBase, transform: Transform) -> EnvBase:
    if isinstance(env, TransformedEnv):
        return env.append_transform(transform)
    return TransformedEnv(env, transform)
