"""An env where x_t = t, for tests of time alignment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchrl.envs import TransformedEnv

from mario_dreamer.envs.base import (
    BatchedEnv,
    check_at_least_one,
    check_choice,
    check_plays_each_action_once,
    pixel_spec,
    with_bookkeeping,
)
from mario_dreamer.keys import PIXELS


class CountingEnv(BatchedEnv):
    """Observe the time step, so that a wrong shift shows as a wrong integer.

        x_t = t     every pixel is min(t, 255), but for the top left one:
                    that is 1 + a_{t-1}, and 0 in an opening frame
        r_t = 10 t  arrives together with x_t; the opening frame has none

    Args:
        num_envs: N.
        length: transitions of an episode, so `length + 1` frames; one number, or one per env.
        ending: "terminated" (by the rules) or "truncated" (by a time limit).
        num_actions: A.
        image_size: side of the square frame, at least 2.

    Raises:
        ValueError: unknown `ending`, a size out of its range, or lengths that are not one
            number per env.
    """

    STATE = ("last_action",)

    def __init__(
        self,
        num_envs: int = 1,
        length: int | Sequence[int] = 10,
        ending: str = "terminated",
        num_actions: int = 3,
        image_size: int = 4,
    ) -> None:
        check_choice("ending", ending, ("terminated", "truncated"))
        check_at_least_one(num_actions=num_actions)
        if image_size < 2:
            raise ValueError(f"env.image_size must be at least 2; got {image_size}.")
        lengths = [length] * num_envs if isinstance(length, int) else list(length)
        if len(lengths) != num_envs or min(lengths, default=0) < 1:
            raise ValueError(
                f"CountingEnv: length must be one number >= 1, or {num_envs} of them; got {length}."
            )
        spec = pixel_spec(3, image_size, image_size)
        super().__init__(num_envs, num_actions, {PIXELS: spec})
        self.image_size, self.ending, self.lengths = image_size, ending, torch.tensor(lengths)
        self.last_action = torch.full((num_envs,), -1)

    def _begin(self, mask: Tensor) -> None:
        self.last_action[mask] = -1

    def _advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        time, self.last_action = self.steps + 1, action
        ends, never = time >= self.lengths, torch.zeros_like(time, dtype=torch.bool)
        reward = 10.0 * time
        return (reward, ends, never) if self.ending == "terminated" else (reward, never, ends)

    def _observe(self) -> dict[str, Tensor]:
        shade = self.steps.clamp(max=255).to(torch.uint8)
        pixels = shade.view(-1, 1, 1, 1).repeat(1, 3, self.image_size, self.image_size)
        pixels[:, :, 0, 0] = (self.last_action + 1).to(torch.uint8).unsqueeze(-1)
        return {PIXELS: pixels}


def make_counting_env(
    num_envs: int = 1,
    seed: int = 0,
    length: int | Sequence[int] = 10,
    ending: str = "terminated",
    num_actions: int = 3,
    image_size: int = 4,
    action_repeat: int = 1,
) -> TransformedEnv:
    """Make N counting envs with the bookkeeping of a run; see `CountingEnv`. Nothing is random."""
    check_plays_each_action_once(action_repeat)
    return with_bookkeeping(CountingEnv(num_envs, length, ending, num_actions, image_size))
