"""Offer an env's actions as the agent writes them: one-hot, or numbers in [-1, 1]."""

from __future__ import annotations

from collections.abc import Sequence

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
from torchrl.envs import EnvBase
from torchrl.envs.transforms import ActionMask, Transform

from mario_dreamer.keys import ACTION_MASK


class ClippedActionScaling(Transform):
    """Clip actions to [-1, 1], then scale them to the env's own range, never beyond its ends.

    a_env = low + (clip(a, -1, 1) + 1) / 2 * (high - low)

    Args:
        low, high: see `action_range`.
    """

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__(in_keys_inv=["action"], out_keys_inv=["action"])
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def _inv_apply_transform(self, action: Tensor) -> Tensor:
        share = (action.to(self.low.dtype).clamp(-1.0, 1.0) + 1.0) / 2.0
        return torch.lerp(self.low, self.high, share)

    def transform_action_spec(self, action_spec: Composite) -> Composite:
        """Offer [-1, 1], also where an end has no bound."""
        own = action_spec["action"]
        action_spec["action"] = Bounded(-1.0, 1.0, own.shape, dtype=own.dtype)
        return action_spec


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

    def transform_action_spec(self, action_spec: Composite) -> Composite:
        """Offer the one-hot spec of the same choices."""
        action_spec["action"] = action_spec["action"].to_one_hot_spec()
        return action_spec


class OwnActions(Transform):
    """Keep what a Gymnasium env's own actions add to those of TorchRL; nothing is changed.

    Args:
        start: where each choice begins to count; empty: there are no choices.
        shape: of an action of one env; () is a single number.
        is_whole: numbers are rounded.
    """

    def __init__(self, start: Sequence[int], shape: Sequence[int], is_whole: bool) -> None:
        super().__init__()
        self.form = {"start": list(start), "shape": list(shape), "is_whole": is_whole}


def action_range(spec: TensorSpec) -> tuple[Tensor, Tensor] | None:
    """Return the low and high, [..., A], that the agent's -1 and 1 stand for.

    A number with one bound ranges over 2 from there; one without, next to others that have some,
    over [-1, 1]. None: not floats, or none of them has a bound.
    """
    if not isinstance(spec, Bounded) or not spec.dtype.is_floating_point:
        return None
    low, high, far = spec.space.low, spec.space.high, torch.finfo(spec.dtype).max / 4
    is_low_open, is_high_open = low <= -far, high >= far
    if bool((is_low_open & is_high_open).all()):
        return None
    end = torch.where(is_high_open, 1.0, high)
    start = torch.where(is_low_open, torch.where(is_high_open, -1.0, end - 2.0), low)
    return start, torch.where(is_high_open, start + 2.0, high)


def with_agent_actions(env: EnvBase) -> EnvBase:
    """Append the transforms that an env's action spec and its `action_mask` ask for, if any.

    Bounded numbers become [-1, 1], see `action_range`, indices become one-hot. Numbers without
    bounds, one-hot and binary actions are played as the actor draws them. An observed mask goes
    into the action spec, so that the spec's random actions are legal too.

    Args:
        env: its action spec is a single tensor, [N, ...].

    Raises:
        ValueError: a mask of another shape than the one-hot actions, or of another kind of action.
    """
    spec = env.action_spec
    if (ends := action_range(spec)) is not None:
        env = env.append_transform(ClippedActionScaling(*ends))
    elif isinstance(spec, MultiCategorical):
        choices = spec.nvec.reshape(-1, spec.shape[-1])[0].tolist()
        env = env.append_transform(OneHotActions(choices))
    elif isinstance(spec, Categorical) and not isinstance(spec, Binary):
        env = env.append_transform(OneHotActions())
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
    return env.append_transform(ActionMask())
