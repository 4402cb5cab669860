"""The TorchRL transforms that TorchRL lacks for Mario; each wraps one world, batch size [].

Order inside a `Compose`: FrameReward (once per raw frame), ActionRepeat, then what happens once
per agent step: StickyAction, ResizeScreen, Limits.
"""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from torchrl.data import Composite
from torchrl.envs import Transform

from mario_dreamer.envs.base import check_at_least_one, pixel_spec
from mario_dreamer.envs.mario.randomness import Chance
from mario_dreamer.envs.mario.rewards import MarioReward
from mario_dreamer.envs.screens import check_picture, shrink
from mario_dreamer.keys import ACTION, PIXELS


class FrameReward(Transform):
    """Pay one raw frame by the rules; reads `x_pos`, `time` and `flag` around it.

    Args:
        rules: `MarioReward` or any callable (before, after, terminated, package_reward) -> float.
    """

    def __init__(self, rules: MarioReward) -> None:
        super().__init__(in_keys=["reward"], out_keys=["reward"])
        self.rules = rules

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        facts = ("x_pos", "time")
        before = {key: int(tensordict[key]) for key in facts}
        after = {key: int(next_tensordict[key]) for key in facts}
        after["flag_get"] = bool(next_tensordict["flag"])
        package_reward = float(next_tensordict["reward"])
        terminated = bool(next_tensordict["terminated"])
        reward = self.rules(before, after, terminated, package_reward)
        return next_tensordict.set("reward", torch.tensor([reward], dtype=torch.float32))


class ActionRepeat(Transform):
    """Hold an action for several raw frames, sum their rewards, and stop where the episode ends.

    TorchRL's `FrameSkipTransform` steps on past the end. With `max_pool` the picture is the
    brighter of the last two raw frames of a whole step; one that the episode's end cuts short
    shows its last frame alone.

    Args:
        repeat: raw frames per agent step, at least 1.
        max_pool: whether to pool.
    """

    def __init__(self, repeat: int = 4, max_pool: bool = False) -> None:
        check_at_least_one(action_repeat=repeat)
        super().__init__()
        self.repeat, self.max_pool = repeat, max_pool

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        assert next_tensordict.numel() == 1, "ActionRepeat holds the action of one world"
        reward, pictures = next_tensordict["reward"], [next_tensordict[PIXELS]]
        for _ in range(self.repeat - 1):
            if next_tensordict["done"].any():
                break
            root = tensordict.copy().update(next_tensordict.exclude("reward"))
            next_tensordict = self.parent._step(root)
            reward = reward + next_tensordict["reward"]
            pictures.append(next_tensordict[PIXELS])
        if self.max_pool and 1 < len(pictures) == self.repeat:
            next_tensordict[PIXELS] = torch.maximum(*pictures[-2:])
        return next_tensordict.set("reward", reward)


class DeathScreen(Transform):
    """Show a black picture where an episode ended in a death, as the game does a moment later.

    The frame in which Mario dies looks almost like the one before it: he touches an enemy of four
    by four pixels. A world model must see a death before it can foresee one, and black is seen.
    A flag, a truncation and the next episode keep their pictures.
    """

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        died = next_tensordict["terminated"] & ~next_tensordict["flag"]  # [N, 1]
        pixels = next_tensordict[PIXELS]
        return next_tensordict.set(PIXELS, pixels.masked_fill(died[..., None, None], 0))


class StickyAction(Transform):
    """Now and then repeat the previous action instead of the chosen one, once per agent step.

    The recorded `action` stays the chosen one: the world model sees chance, not a trick.

    Args:
        chance: decides when; the first step of an episode has nothing to repeat.
    """

    def __init__(self, chance: Chance) -> None:
        super().__init__(in_keys_inv=[ACTION], out_keys_inv=[ACTION])
        self.chance = chance
        self.held: torch.Tensor | None = None

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = tensordict[ACTION]
        if self.chance.sticks() and self.held is not None:
            action = self.held
        self.held = action.clone()
        return tensordict.set(ACTION, action)

    def _reset(
        self, tensordict: TensorDictBase | None, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        self.held = None
        return tensordict_reset


class ResizeScreen(Transform):
    """Shrink the raw screen, uint8 [240, 256, 3], to the agent's picture, uint8 [3, S, S].

    Args:
        image_size: S.
        crop_top: raw rows cut off first.
    """

    def __init__(self, image_size: int = 64, crop_top: int = 0, rows: int = 240) -> None:
        check_picture(image_size, crop_top, rows)
        super().__init__(in_keys=[PIXELS], out_keys=[PIXELS])
        self.image_size, self.crop_top = image_size, crop_top

    def _call(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        picture = shrink(next_tensordict[PIXELS], self.image_size, self.image_size, self.crop_top)
        return next_tensordict.set(PIXELS, picture)

    def _reset(
        self, tensordict: TensorDictBase | None, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        return self._call(tensordict_reset)

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        """Announce the small picture in place of the screen."""
        observation_spec = observation_spec.clone()
        observation_spec[PIXELS] = pixel_spec(3, self.image_size, self.image_size)
        return observation_spec


class Limits(Transform):
    """Truncate (never terminate) an episode that is long, or that has stopped getting on.

    Args:
        max_steps: agent steps of an episode; None: no limit.
        stall_limit: agent steps without a new furthest x; None: no limit.
    """

    def __init__(self, max_steps: int | None = None, stall_limit: int | None = None) -> None:
        check_at_least_one(max_steps=max_steps, stall_limit=stall_limit)
        super().__init__()
        self.max_steps, self.stall_limit = max_steps, stall_limit
        self.steps = self.stalled = self.best = 0

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        furthest = int(next_tensordict["x_max"])
        self.steps += 1
        self.stalled = 0 if furthest > self.best else self.stalled + 1
        self.best = furthest
        counts = ((self.steps, self.max_steps), (self.stalled, self.stall_limit))
        reached = any(limit is not None and count >= limit for count, limit in counts)
        if reached and not next_tensordict["terminated"]:
            over = torch.ones_like(next_tensordict["truncated"])
            next_tensordict.set("truncated", over).set("done", over.clone())
        return next_tensordict

    def _reset(
        self, tensordict: TensorDictBase | None, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        self.steps, self.stalled, self.best = 0, 0, int(tensordict_reset["x_max"])
        return tensordict_reset
