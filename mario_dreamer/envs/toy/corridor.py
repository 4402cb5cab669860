"""A corridor small enough to learn on a CPU."""

from __future__ import annotations

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


class ToyEnv(BatchedEnv):
    """A corridor: a white dot walks left or right and is rewarded +1 at the green right end.

    Actions: 0 stay, 1 left, 2 right. It starts in a random cell of the left half. The episode
    terminates at the right end and is truncated after `max_steps`, so a random walk often
    earns nothing and the best policy earns 1 each time.

    Args:
        num_envs: N.
        image_size: side of the square frame; at least `cells`.
        cells: length of the corridor, at least 3.
        max_steps: agent steps until truncation; None: never.
        seed: of the starting cells.
    """

    STATE = ("cell",)

    def __init__(
        self,
        num_envs: int = 1,
        image_size: int = 64,
        cells: int = 8,
        max_steps: int | None = 24,
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


def make_toy_env(
    num_envs: int = 1,
    seed: int = 0,
    image_size: int = 64,
    cells: int = 8,
    max_steps: int | None = 24,
    action_repeat: int = 1,
) -> TransformedEnv:
    """Make N corridors with the bookkeeping of a run; see `ToyEnv`."""
    check_plays_each_action_once(action_repeat)
    return with_bookkeeping(ToyEnv(num_envs, image_size, cells, max_steps, seed))
