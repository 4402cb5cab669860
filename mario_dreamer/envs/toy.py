"""Toy worlds: CountingEnv, where x_t = t, and a corridor small enough to learn on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchrl.envs import TransformedEnv

from mario_dreamer.envs.base import (
    BatchedEnv,
    check_plays_each_action_once,
    pixel_spec,
    with_bookkeeping,
)
from mario_dreamer.keys import PIXELS


class CountingEnv(BatchedEnv):
    """Show the agent the time, so that a wrong shift becomes a wrong integer.

        x_t = t     every pixel is min(t, 255), but for the top left one:
                    that is 1 + a_{t-1}, and 0 in an opening frame
        r_t = 10 t  arrives together with x_t; the opening frame has none

    Args:
        num_envs: N.
        length: transitions of an episode, so `length + 1` frames; one number, or one per world.
        ending: "terminated" (by the rules) or "truncated" (by a time limit).
        num_actions: A.
        image_size: side of the square frame, at least 2.
        seed: kept for the common signature; nothing here is random.

    Raises:
        ValueError: unknown `ending`, or lengths that are not one number per world.
    """

    STATE = ("time", "last_action")

    def __init__(
        self,
        num_envs: int = 1,
        length: int | Sequence[int] = 10,
        ending: str = "terminated",
        num_actions: int = 3,
        image_size: int = 4,
        seed: int = 0,
    ) -> None:
        if ending not in ("terminated", "truncated"):
            raise ValueError(
                f"CountingEnv: ending must be terminated or truncated; got {ending!r}."
            )
        lengths = [length] * num_envs if isinstance(length, int) else list(length)
        if len(lengths) != num_envs or min(lengths, default=0) < 1:
            raise ValueError(
                f"CountingEnv: length must be one number >= 1, or {num_envs} of them; got {length}."
            )
        spec = pixel_spec(3, image_size, image_size)
        super().__init__(num_envs, num_actions, {PIXELS: spec}, seed=seed)
        self.image_size, self.ending, self.lengths = image_size, ending, torch.tensor(lengths)
        self.time = torch.zeros(num_envs, dtype=torch.int64)
        self.last_action = torch.full((num_envs,), -1)

    def _begin(self, mask: Tensor) -> None:
        self.time[mask] = 0
        self.last_action[mask] = -1

    def _advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.time, self.last_action = self.time + 1, action
        ends, never = self.time >= self.lengths, torch.zeros_like(self.time, dtype=torch.bool)
        reward = 10.0 * self.time
        return (reward, ends, never) if self.ending == "terminated" else (reward, never, ends)

    def _observe(self) -> dict[str, Tensor]:
        shade = self.time.clamp(max=255).to(torch.uint8)
        pixels = shade.view(-1, 1, 1, 1).repeat(1, 3, self.image_size, self.image_size)
        pixels[:, :, 0, 0] = (self.last_action + 1).to(torch.uint8).unsqueeze(-1)
        return {PIXELS: pixels}


class ToyEnv(BatchedEnv):
    """A corridor: a white dot walks left or right and is paid +1 at the green right end.

    Actions: 0 stay, 1 left, 2 right. It starts in a random cell of the left half. The episode
    terminates at the right end and is truncated after `max_steps`, so a random walk often
    earns nothing and the best policy earns 1 each time.

    Args:
        num_envs: N.
        image_size: side of the square frame; at least `cells`.
        cells: length of the corridor, at least 3.
        max_steps: agent steps until truncation.
        seed: of the starting cells.
    """

    STATE = ("cell",)

    def __init__(
        self,
        num_envs: int = 1,
        image_size: int = 64,
        cells: int = 8,
        max_steps: int = 24,
        seed: int = 0,
    ) -> None:
        if cells < 3 or image_size < cells:
            raise ValueError(
                f"ToyEnv: needs 3 <= cells <= image_size; got cells={cells}, "
                f"image_size={image_size}. Set env.cells=8 env.image_size=64."
            )
        spec = pixel_spec(3, image_size, image_size)
        super().__init__(num_envs, 3, {PIXELS: spec}, max_steps, seed)
        self.cells = cells
        self.cell = torch.zeros(num_envs, dtype=torch.int64)
        self.gallery = draw_corridor(cells, image_size)

    def _begin(self, mask: Tensor) -> None:
        start = torch.randint(self.cells // 2, (self.num_envs,), generator=self.generator)
        self.cell = torch.where(mask, start, self.cell)

    def _advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        move = torch.tensor([0, -1, 1])[action]
        self.cell = (self.cell + move).clamp(0, self.cells - 1)
        arrived = self.cell == self.cells - 1
        return arrived.float(), arrived, torch.zeros_like(arrived)

    def _observe(self) -> dict[str, Tensor]:
        return {PIXELS: self.gallery.index_select(0, self.cell)}


def draw_corridor(cells: int, image_size: int) -> Tensor:
    """Draw the corridor with the dot in each cell: [cells, 3, image_size, image_size] uint8."""
    side = image_size // cells
    top = (image_size - side) // 2
    gallery = torch.zeros(cells, 3, image_size, image_size, dtype=torch.uint8)
    gallery[:, 2, top : top + side, : cells * side] = 60  # a dark blue floor
    gallery[:, 1, :, (cells - 1) * side : cells * side] = 120  # the green goal
    for cell in range(cells):
        gallery[cell, :, top : top + side, cell * side : (cell + 1) * side] = 255
    return gallery


def make_counting_env(
    num_envs: int = 1,
    seed: int = 0,
    length: int | Sequence[int] = 10,
    ending: str = "terminated",
    num_actions: int = 3,
    image_size: int = 4,
    action_repeat: int = 1,
) -> TransformedEnv:
    """Make N counting worlds with the bookkeeping of a run; see `CountingEnv`."""
    check_plays_each_action_once(action_repeat)
    env = CountingEnv(num_envs, length, ending, num_actions, image_size, seed)
    return with_bookkeeping(env)


def make_toy_env(
    num_envs: int = 1,
    seed: int = 0,
    image_size: int = 64,
    cells: int = 8,
    max_steps: int = 24,
    action_repeat: int = 1,
) -> TransformedEnv:
    """Make N corridors with the bookkeeping of a run; see `ToyEnv`."""
    check_plays_each_action_once(action_repeat)
    return with_bookkeeping(ToyEnv(num_envs, image_size, cells, max_steps, seed))
