"""Transforms of Mario's raw frames: action repeat, reward, limits and the picture of a death."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs import Transform

from mario_dreamer.envs.mario.game import TRACK
from mario_dreamer.keys import ACTION, PIXELS


class ActionRepeat(Transform):
    """Play a row of K buttons as K steps of an env of one raw frame, and sum the rewards.

    With `max_pool` the picture is the brighter of the last two raw frames; a step that the end of
    the episode cuts short shows its last frame alone. TorchRL's `FrameSkipTransform` steps on past
    the end. `BatchedMario` does the same inside its threads.

    Args:
        frames: K.
        max_pool: whether to pool.
    """

    def __init__(self, frames: int, max_pool: bool = False) -> None:
        super().__init__(in_keys_inv=[ACTION], out_keys_inv=[ACTION])
        self.frames, self.max_pool = frames, max_pool

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        buttons = tensordict[ACTION]
        return tensordict.set("buttons", buttons).set(ACTION, buttons[..., :1])

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        buttons = tensordict["buttons"]
        played = [next_tensordict]
        for frame in range(1, self.frames):
            root = tensordict.copy().set(ACTION, buttons[..., frame : frame + 1])
            played.append(self.parent._step(root))
        last = played[-1]
        afters = [step[TRACK][..., 1:, :] for step in played]
        last[TRACK] = torch.cat([played[0][TRACK][..., :1, :], *afters], -2)
        last["reward"] = sum(step["reward"] for step in played)
        if self.max_pool and self.frames > 1:
            before = played[-2]
            whole = (buttons[..., -2:] >= 0).all(-1, keepdim=True) & ~before["terminated"]
            pooled = torch.maximum(before[PIXELS], last[PIXELS])
            last[PIXELS] = torch.where(whole[..., None, None], pooled, last[PIXELS])
        return last

    def _reset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        now = tensordict_reset[TRACK][..., -1:, :]
        return tensordict_reset.set(TRACK, now.expand(*now.shape[:-2], self.frames + 1, 2))

    def transform_input_spec(self, input_spec: Composite) -> Composite:
        """Ask for K buttons."""
        shape = (*input_spec.shape, self.frames)
        input_spec["full_action_spec", ACTION] = Bounded(-1, 255, shape, dtype=torch.int16)
        return input_spec

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        """Announce the track of K frames."""
        shape = (*observation_spec.shape, self.frames + 1, 2)
        observation_spec[TRACK] = Unbounded(shape, dtype=torch.int64)
        return observation_spec


class PayReward(Transform):
    """Put the reward of a step in place of the package's own, and drop the track.

    Args:
        rules: `MarioReward`, or any callable with its arguments.
    """

    def __init__(self, rules: Callable[..., Tensor]) -> None:
        super().__init__()
        self.rules = rules

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        track = next_tensordict.pop(TRACK)  # [N, K + 1, 2]
        names = ("flag", "terminated", "reward")
        reward = self.rules(track, *(next_tensordict[name] for name in names))
        return next_tensordict.set("reward", reward)

    def _reset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        return tensordict_reset.exclude(TRACK)

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        """Take the track out."""
        del observation_spec[TRACK]
        return observation_spec


class Limits(Transform):
    """Truncate (never terminate) an episode that is long, or that makes no progress.

    Args:
        max_steps: agent steps of an episode, which TorchRL's `StepCounter` has to count; None: no
            limit.
        stall_limit: agent steps without a new furthest x; None: no limit. They are counted in
            `stalled`, int64 [N, 1].
    """

    def __init__(self, max_steps: int | None = None, stall_limit: int | None = None) -> None:
        super().__init__()
        self.max_steps, self.stall_limit = max_steps, stall_limit

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        over = torch.zeros_like(next_tensordict["truncated"])
        if self.max_steps is not None:
            over |= tensordict["step_count"] + 1 >= self.max_steps
        if self.stall_limit is not None:
            advanced = next_tensordict["x_max"] > tensordict["x_max"]
            stalled = (tensordict["stalled"] + 1).masked_fill(advanced, 0)
            next_tensordict.set("stalled", stalled)
            over |= stalled >= self.stall_limit
        if over.any():
            over &= ~next_tensordict["terminated"]
            for key in ("truncated", "done"):
                next_tensordict.set(key, next_tensordict[key] | over)
        return next_tensordict

    def _reset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        if self.stall_limit is not None:
            tensordict_reset.set("stalled", torch.zeros_like(tensordict_reset["x_max"]))
        return tensordict_reset

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        """Announce the count."""
        if self.stall_limit is not None:
            observation_spec["stalled"] = observation_spec["x_max"].clone()
        return observation_spec


class DeathScreen(Transform):
    """Show a black picture where an episode ended in a death, as the game does a moment later.

    The frame in which Mario dies looks almost like the one before it: he touches an enemy of four
    by four pixels. A world model must see a death before it can predict one, and black is seen.
    A flag, a truncation and the next episode keep their pictures.
    """

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        died = next_tensordict["terminated"] & ~next_tensordict["flag"]  # [N, 1]
        pixels = next_tensordict[PIXELS]
        return next_tensordict.set(PIXELS, pixels.masked_fill(died[..., None, None], 0))
