"""What TorchRL's `GymWrapper` needs: plain spaces, and a reader of the info dict."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from tensordict import TensorDictBase
from torchrl.data import Binary, Composite, TensorSpec, Unbounded
from torchrl.envs.gym_like import BaseInfoDictReader

from mario_dreamer.envs.image_view import LEAVE_OUT, layout_of
from mario_dreamer.envs.observations import RAW, check_unique
from mario_dreamer.keys import ACTION_MASK, STATS

NUMBERS = (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete)
TORCH_TYPES = (np.uint8, np.int8, np.int16, np.int32, np.int64, np.float32, np.float64)


class PlainActions(gymnasium.ActionWrapper):
    """Take a single index from 0 on, or a row [A] of indices, flags or floats.

    What the env's own space adds is put back before each step: where counting starts, the shape,
    the number type; of whole numbers in a Box the nearest one is played.

    Raises:
        ValueError: other actions, such as a Dict of them.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.own = own = env.action_space
        if not isinstance(own, NUMBERS):
            raise ValueError(
                f"env: its actions are {own}; expected Discrete, MultiDiscrete, MultiBinary or Box. "
                "Wrap the env with gymnasium.wrappers.TransformAction, or flatten them."
            )
        if isinstance(own, spaces.Box):
            low = np.where(own.bounded_below, own.low, -np.inf).flatten().astype(np.float32)
            high = np.where(own.bounded_above, own.high, np.inf).flatten().astype(np.float32)
            self.action_space = spaces.Box(low, high, dtype=np.float32)
        elif own.shape and np.prod(own.shape) == 1:  # TorchRL plays no MultiBinary(1)
            count = own.nvec.item() if isinstance(own, spaces.MultiDiscrete) else 2
            self.action_space = spaces.Discrete(count)
        else:
            self.action_space = _plain(own)

    def action(self, action: Any) -> Any:
        """Return the env's own action for a plain one."""
        own, action = self.own, np.asarray(action).reshape(self.own.shape)
        if isinstance(own, spaces.Box):
            action = np.rint(action) if own.dtype.kind in "ui" else action
            return action.clip(own.low, own.high).astype(own.dtype)
        return (action + getattr(own, "start", 0)).astype(own.dtype)[()]

    @property
    def own_actions(self) -> dict[str, Any]:
        """What `envs.actions.OwnActions` keeps."""
        start = np.asarray(getattr(self.own, "start", [])).flatten().tolist()
        is_whole = isinstance(self.own, spaces.Box) and self.own.dtype.kind in "ui"
        return {"start": start, "shape": self.own.shape, "is_whole": is_whole}


class PlainSpaces(gymnasium.ObservationWrapper):
    """Give every observation a name and a space that TorchRL reads as it is meant.

    Nested spaces become one flat Dict; Discrete ones start at 0; number types that torch lacks
    (uint16) become float32 of the same range. One called `action_mask` says what is legal.

    Args:
        wanted: patterns of the names to keep; None: all.

    Raises:
        ValueError: a space that holds no numbers (text, sequences, graphs) is kept, two
            observations have one name, or the first frame contradicts its space.
    """

    def __init__(self, env: gymnasium.Env, wanted: Sequence[str] | None = None) -> None:
        super().__init__(env)
        self.parts: dict[str, tuple[tuple[Any, ...], spaces.Space]] = {}
        check_unique([name for name, _, _ in leaves(env.observation_space)])
        for name, path, space in leaves(env.observation_space):
            if path[-1:] == (ACTION_MASK,) and isinstance(space, NUMBERS):
                self.parts[ACTION_MASK] = path, spaces.MultiBinary(space.shape)
            elif wanted is None or any(fnmatch(name, pattern) for pattern in wanted):
                if not isinstance(space, NUMBERS):
                    raise ValueError(
                        f"env: observation {name!r} is {space}, which cannot be learned from. "
                        f"Make numbers of it. {LEAVE_OUT}"
                    )
                self.parts[RAW + name] = path, space
        if not self.parts.keys() - {ACTION_MASK}:
            hint = "It has to observe something." if wanted is None else (
                f"env.observations={list(wanted)} fits none of it; name at least one."
            )  # fmt: skip
            raise ValueError(f"env: it observes {env.observation_space}. {hint}")
        plain = {key: _plain(space) for key, (_, space) in self.parts.items()}
        self.observation_space = spaces.Dict(plain)
        self.is_checked = False

    def observation(self, observation: Any) -> dict[str, Any]:
        """Return the kept observations by name, each within its plain space."""
        found = {}
        for key, (path, space) in self.parts.items():
            value = functools.reduce(lambda part, name: part[name], path, observation)
            value, dtype = np.asarray(value), self.observation_space[key].dtype
            if isinstance(space, spaces.Box):
                if not self.is_checked:
                    _check_frame(key.removeprefix(RAW), space, value)
                found[key] = value.astype(dtype, copy=False)
            else:
                plain = (value - getattr(space, "start", 0)).astype(dtype)
                found[key] = plain[()] if isinstance(space, spaces.Discrete) else plain.flatten()
        self.is_checked = True
        return found


def leaves(
    space: spaces.Space, path: tuple[Any, ...] = ()
) -> Iterator[tuple[str, tuple[Any, ...], spaces.Space]]:
    """Every space inside a Dict or Tuple: the name that its observation gets, its path, itself."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        inner = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in inner:
            yield from leaves(part, (*path, key))
    else:
        yield "_".join(map(str, path)) or "observation", path, space


def is_image(space: spaces.Space) -> bool:
    """Whether a space has the shape of an image."""
    return isinstance(space, spaces.Box) and layout_of(space.shape) is not None


def _plain(space: spaces.Space) -> spaces.Space:
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n))
    if isinstance(space, spaces.MultiBinary):
        return spaces.MultiBinary(int(np.prod(space.shape)))
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.MultiDiscrete(space.nvec.flatten())
    if isinstance(space, spaces.Box) and space.dtype not in TORCH_TYPES:
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
        return spaces.Box(low, high, space.shape, np.float32)
    return space


def _check_frame(name: str, space: spaces.Box, value: np.ndarray) -> None:
    """Raise ValueError where the first value of an observation is not what its space says."""
    wrong = value.shape != space.shape
    if not wrong and is_image(space):
        wrong = bool((value < space.low).any() or (value > space.high).any())
        wrong |= space.dtype.kind in "ui" and value.dtype.kind == "f"
    if wrong:
        spread = f"{value.min()} to {value.max()}" if value.size else "empty"
        raise ValueError(
            f"env: observation {name!r} contradicts its space {space}: the first one is "
            f"{value.dtype} {list(value.shape)}, {spread}. Correct the env."
        )


class InfoReader(BaseInfoDictReader):
    """Copy `action_mask` and the numbers in `stats` from the info into the TensorDict.

    They become `action_mask`, bool [A], and ("stats", name), float32 [1] each. What an info lacks
    is all legal, or 0.

    Args:
        info: the info of a reset: what it holds is read from then on.
    """

    def __init__(self, info: Mapping[str, Any]) -> None:
        self.names = list(info.get(STATS, ()))
        mask = info.get(ACTION_MASK)
        self.num_actions = 0 if mask is None else np.hstack(mask).size

    def __call__(self, info_dict: dict[str, Any], tensordict: TensorDictBase) -> TensorDictBase:
        """Read the info of a step or a reset."""
        if self.num_actions:
            mask = np.hstack(info_dict.get(ACTION_MASK, np.ones(self.num_actions)))
            tensordict.set(ACTION_MASK, torch.as_tensor(mask.astype(bool)))
        stats = info_dict.get(STATS, {})
        for name in self.names:
            tensordict.set((STATS, name), torch.tensor([float(stats.get(name, 0.0))]))
        return tensordict

    @property
    def info_spec(self) -> dict[str, TensorSpec]:
        """Describe what is read."""
        specs: dict[str, TensorSpec] = {}
        if self.num_actions:
            specs[ACTION_MASK] = Binary(self.num_actions, dtype=torch.bool)
        if self.names:
            specs[STATS] = Composite({name: Unbounded([1]) for name in self.names})
        return specs
