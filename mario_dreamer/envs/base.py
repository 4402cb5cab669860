"""BatchedEnv: the TorchRL interface that all envs of this package share, and option checks."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import psutil
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Bounded, Composite, OneHot, TensorSpec, Unbounded
from torchrl.envs import (
    Compose,
    EnvBase,
    InitTracker,
    RewardSum,
    StepCounter,
    Transform,
    TransformedEnv,
)

from mario_dreamer.checks import check, require_keys

log = logging.getLogger(__name__)

COUNTERS = ("steps", "_terminated", "_truncated")  # what every env keeps of its episode


class EnvFailed(RuntimeError):
    """An environment raised an error, or its reward is not a number."""


def env_call[T](method: Callable[..., T], *args: Any, **options: Any) -> T:
    """Call a method of an env.

    Raises:
        EnvFailed: it raised.
    """
    try:
        return method(*args, **options)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise EnvFailed(
            f"the environment failed: {reason}. MARIO_DREAMER_TRACEBACK=1 shows where."
        ) from error


def close_env(env: EnvBase) -> None:
    """Close an env for good; one that cannot be closed stops nothing."""
    try:
        env.close()
    except Exception as error:
        log.warning("the environment could not be closed: %s: %s", type(error).__name__, error)


def read_action(tensordict: TensorDictBase, num_actions: int) -> Tensor:
    """Return the index of each chosen action, int64 [N], from one-hot `action` [N, A].

    Raises:
        KeyError, TypeError, ValueError: what was expected, and what was given.
    """
    require_keys("env.step", tensordict, ["action"])
    action = tensordict.get("action")
    shape = " ".join(map(str, tensordict.batch_size))
    wanted = {"action": (action, f"{shape} A: one-hot")}
    check("env.step", torch.device("cpu"), {"A": num_actions}, wanted)
    top, index = action.max(-1)
    if not ((top == 1) & (action.count_nonzero(-1) == 1)).all():
        raise ValueError(
            f"env.step: action must be one-hot over {num_actions} actions, a single 1 per env; "
            f"got {action.tolist()}."
        )
    return index


class BatchedEnv(EnvBase):
    """N envs in one TorchRL environment; a subclass writes the rules on plain tensors.

    A subclass gives `_begin` (open episodes), `_advance` (one step of all envs) and
    `_observe` (what the agent sees); this class turns them into TensorDicts, resets only the
    envs that ask for it (`_reset`), and truncates episodes at `max_steps`. `state_dict` holds the
    state of every env, in mid-episode, so that a resumed run continues.

    Args:
        num_envs: N, at least 1.
        actions: A, for one-hot actions [N, A] int64; or the spec of one env's own kind of action.
        observations: one spec per key, of a single env (no leading N).
        max_steps: agent steps after which an episode is truncated; None: never.
        seed: first seed; `set_seed` starts the random numbers again.

    Raises:
        ValueError: num_envs or max_steps is below 1.

    Attributes:
        resumable: whether `state_dict` is complete; False: a resumed run opens new episodes.
        STATE: names of a subclass's own tensors that belong to the state.
        steps: agent steps of the episode before this one, int64 [N]; in `_observe`, all of them.
    """

    resumable = True
    STATE: tuple[str, ...] = ()

    def __init__(
        self,
        num_envs: int,
        actions: int | TensorSpec,
        observations: dict[str, TensorSpec],
        max_steps: int | None = None,
        seed: int = 0,
    ) -> None:
        check_at_least_one(num_envs=num_envs, max_steps=max_steps)
        super().__init__(device="cpu", batch_size=[num_envs])
        self.num_envs, self.max_steps = num_envs, max_steps
        self.num_actions = actions if isinstance(actions, int) else None
        batched = {key: spec.expand(num_envs, *spec.shape) for key, spec in observations.items()}
        self.observation_spec = Composite(batched, shape=[num_envs])
        if isinstance(actions, int):
            actions = OneHot(actions, dtype=torch.int64)
        self.action_spec = actions.expand(num_envs, *actions.shape)
        self.reward_spec = Unbounded([num_envs, 1])
        flag = Binary(1, [num_envs, 1], dtype=torch.bool)
        flags = {key: flag.clone() for key in ("done", "terminated", "truncated")}
        self.full_done_spec = Composite(flags, shape=[num_envs])
        self.steps = torch.zeros(num_envs, dtype=torch.int64)
        self._terminated = torch.zeros(num_envs, dtype=torch.bool)
        self._truncated = torch.zeros(num_envs, dtype=torch.bool)
        self.generator = torch.Generator()
        self._set_seed(seed)

    @abstractmethod
    def _begin(self, mask: Tensor) -> None:
        """Open a new episode in the envs where `mask`, [N] bool, is true."""

    @abstractmethod
    def _advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take actions, [N] int64; return reward (float), terminated and truncated, [N] each."""

    @abstractmethod
    def _observe(self) -> dict[str, Tensor]:
        """Return what the agent sees now, [N, ...] each, in tensors not written to later."""

    def _set_seed(self, seed: int | None) -> None:
        if seed is not None:
            self.generator.manual_seed(seed)

    def _reset(self, tensordict: TensorDictBase | None = None, **_: object) -> TensorDict:
        mask = torch.ones(self.num_envs, dtype=torch.bool)
        if tensordict is not None:
            mask = tensordict.get("_reset", mask).reshape(self.num_envs)
        self._begin(mask)
        for counter in (self.steps, self._terminated, self._truncated):
            counter.masked_fill_(mask, 0)
        return self.current()

    def _assert_tensordict_shape(self, tensordict: TensorDictBase) -> None:
        if tensordict.batch_size != self.batch_size:
            raise ValueError(
                f"env: expected a TensorDict of batch size {list(self.batch_size)}, one row per "
                f"env; got {list(tensordict.batch_size)}."
            )

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        action = tensordict.get("action")
        if self.num_actions is not None:
            action = read_action(tensordict, self.num_actions)
        reward, terminated, truncated = self._advance(action)
        self.steps += 1
        if self.max_steps is not None:
            truncated = truncated | (self.steps >= self.max_steps)
        self._terminated, self._truncated = terminated, truncated & ~terminated
        return self.current().set("reward", reward.float().unsqueeze(-1))

    def current(self) -> TensorDict:
        """Return the observation and the end flags of this moment, [N], without stepping."""
        ends = {"terminated": self._terminated, "truncated": self._truncated}
        ends["done"] = self._terminated | self._truncated
        flags = {key: flag.unsqueeze(-1).clone() for key, flag in ends.items()}
        # Without a device, `step` would copy the whole TensorDict to the env's own.
        return TensorDict({**self._observe(), **flags}, self.batch_size, device=self.device)

    def state_dict(self, *_: object, **__: object) -> dict[str, Any]:
        """Return the state of every env and of the random numbers, as tensors and numbers."""
        moment = {name: getattr(self, name).clone() for name in (*COUNTERS, *self.STATE)}
        return {"generator": self.generator.get_state(), **moment}

    def load_state_dict(self, state_dict: dict[str, Any], *_: object, **__: object) -> None:
        """Continue from what `state_dict` returned; `current()` then shows the same moment.

        Raises:
            ValueError: the state is of another number of envs, or of another kind.
        """
        for name in (*COUNTERS, *self.STATE):
            mine, saved = getattr(self, name), state_dict.get(name)
            if saved is None or saved.shape != mine.shape:
                found = "nothing" if saved is None else list(saved.shape)
                raise ValueError(
                    f"{type(self).__name__}.load_state_dict: {name} has the shape "
                    f"{list(mine.shape)} in this env of {self.num_envs}, the state holds "
                    f"{found}. Build the env as it was, or start without the state."
                )
            setattr(self, name, saved.clone())
        self.generator.set_state(state_dict["generator"])


def with_bookkeeping(env: EnvBase, *transforms: Transform) -> TransformedEnv:
    """Add the transforms, then `is_init`, `step_count` and `episode_reward`, [N, 1] each."""
    return TransformedEnv(env, Compose(*transforms, InitTracker(), StepCounter(), RewardSum()))


def pixel_spec(*shape: int) -> Bounded:
    """Describe a uint8 picture of this shape, such as (channels, height, width); 0 to 255."""
    return Bounded(0, 255, shape=shape, dtype=torch.uint8)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ValueError unless the option `name` is one of the choices."""
    if value not in choices:
        raise ValueError(f"env.{name}: got {value!r}, expected one of {list(choices)}.")


def check_at_least_one(**counts: int | None) -> None:
    """Raise ValueError where a named count is below 1; None means "no limit" and passes."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(
                f"env.{name} must be at least 1; got {count}. Set env.{name}=1 or more."
            )


def check_plays_each_action_once(action_repeat: int) -> None:
    """Raise ValueError unless action_repeat is 1: this env has one frame per action."""
    if action_repeat != 1:
        raise ValueError(f"env.action_repeat must be 1 in this env; got {action_repeat}.")


def count_cpus() -> int:
    """Count the CPUs that this process may use, on any operating system."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # macOS has none
    return len(affinity()) if affinity else os.cpu_count() or 1
