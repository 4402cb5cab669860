"""Envs that test one ability each: long credit assignment, and memory of a cue."""

from __future__ import annotations

import torch
from torch import Tensor
from torchrl.data import Bounded
from torchrl.envs import TransformedEnv

from mario_dreamer.envs.base import (
    BatchedEnv,
    check_at_least_one,
    check_plays_each_action_once,
    pixel_spec,
    with_bookkeeping,
)
from mario_dreamer.keys import PIXELS


class DelayedCorridor(BatchedEnv):
    """Choose a lane in the first step; the reward comes `delay` steps later.

    The first action picks the upper (0) or the lower lane (1). The dot then drifts to the right
    whatever the agent does; the episode terminates after 1 + `delay` steps; its reward is 1 in the
    lower lane, 0 in the upper. A random agent earns 0.5, the best one 1. The lane stays in
    sight: this asks for long credit, not for memory.

    Args:
        num_envs: N.
        delay: steps between the choice and its reward, at least 1.
        image_size: side of the square frame, at least 8.
    """

    STATE = ("lane",)

    def __init__(self, num_envs: int = 1, delay: int = 12, image_size: int = 64) -> None:
        check_at_least_one(delay=delay)
        super().__init__(num_envs, 2, {PIXELS: picture(image_size)})
        self.delay, self.image_size = delay, image_size
        self.lane = torch.full((num_envs,), -1)  # -1: still at the door

    def _begin(self, mask: Tensor) -> None:
        self.lane[mask] = -1

    def _advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.lane = torch.where(self.steps == 0, action, self.lane)
        over = self.steps >= self.delay
        return (over & (self.lane == 1)).float(), over, torch.zeros_like(over)

    def _observe(self) -> dict[str, Tensor]:
        side = self.image_size // 8
        travel = self.image_size - side
        left = (self.steps * travel // (self.delay + 1)).tolist()
        row = (self.lane + 1).tolist()  # 0 door, 1 upper, 2 lower lane
        top = [(self.image_size - side) // 2, side, self.image_size - 2 * side]
        pixels = torch.zeros(self.num_envs, 3, self.image_size, self.image_size, dtype=torch.uint8)
        for index in range(self.num_envs):
            x, y = left[index], top[row[index]]
            pixels[index, :, y : y + side, x : x + side] = 255
        return {PIXELS: pixels}


class MemoryCue(BatchedEnv):
    """Remember the colour of the first frame through the dark, and name it at the signal.

    The opening frame is red or blue at random; then the frames are dark; after `delay` dark
    frames comes a white one, the same for both colours. The action taken on it earns 1 if it
    names the colour (0 red, 1 blue), 0 otherwise, and the episode terminates. Actions before
    have no effect. Whoever forgets earns 0.5 on average, the best one 1.

    Args:
        num_envs: N.
        delay: dark frames between the cue and the signal, at least 1.
        image_size: side of the square frame.
        seed: of the colours.
    """

    STATE = ("cue",)

    def __init__(
        self, num_envs: int = 1, delay: int = 5, image_size: int = 64, seed: int = 0
    ) -> None:
        check_at_least_one(delay=delay)
        super().__init__(num_envs, 2, {PIXELS: picture(image_size)}, seed=seed)
        self.delay, self.image_size = delay, image_size
        self.cue = torch.zeros(num_envs, dtype=torch.int64)

    def _begin(self, mask: Tensor) -> None:
        cue = torch.randint(2, (self.num_envs,), generator=self.generator)
        self.cue = torch.where(mask, cue, self.cue)

    def _advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        over = self.steps > self.delay  # this action answers the signal
        return (over & (action == self.cue)).float(), over, torch.zeros_like(over)

    def _observe(self) -> dict[str, Tensor]:
        pixels = torch.zeros(self.num_envs, 3, self.image_size, self.image_size, dtype=torch.uint8)
        pixels[self.steps == self.delay + 1] = 255
        for colour, channel in ((0, 0), (1, 2)):
            pixels[(self.steps == 0) & (self.cue == colour), channel] = 255
        return {PIXELS: pixels}


def picture(image_size: int) -> Bounded:
    """Describe a square frame.

    Raises:
        ValueError: a side below 8.
    """
    if image_size < 8:
        raise ValueError(f"env.image_size must be at least 8; got {image_size}.")
    return pixel_spec(3, image_size, image_size)


def make_delayed_env(
    num_envs: int = 1, seed: int = 0, delay: int = 12, image_size: int = 64, action_repeat: int = 1
) -> TransformedEnv:
    """Make N corridors with the bookkeeping of a run; see `DelayedCorridor`. Nothing is random."""
    check_plays_each_action_once(action_repeat)
    return with_bookkeeping(DelayedCorridor(num_envs, delay, image_size))


def make_memory_env(
    num_envs: int = 1, seed: int = 0, delay: int = 5, image_size: int = 64, action_repeat: int = 1
) -> TransformedEnv:
    """Make N memory tasks with the bookkeeping of a run; see `MemoryCue`."""
    check_plays_each_action_once(action_repeat)
    return with_bookkeeping(MemoryCue(num_envs, delay, image_size, seed))
