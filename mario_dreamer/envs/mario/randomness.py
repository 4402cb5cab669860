"""Chance in a deterministic game: no-op starts and sticky actions, from a seeded source."""

from __future__ import annotations

from random import Random

import torch
from torch import Tensor


class Chance:
    """Draw what keeps a deterministic game from replaying one trajectory.

    Each world owns one. The two kinds of draws come from sources of their own, so that turning
    one on does not move the other.

    Args:
        seed: of this world.
        random_noops: an episode opens with 0 to this many raw frames without a button.
        sticky: probability that the previous buttons are held instead of the chosen ones.
        sticky_unit: how often that is drawn: "frame", for every raw frame inside the action
            repeat, as the Arcade Learning Environment does; "step", once per agent step.

    Raises:
        ValueError: random_noops below 0, sticky outside [0, 1], or an unknown sticky_unit.
    """

    def __init__(
        self, seed: int, random_noops: int = 0, sticky: float = 0.0, sticky_unit: str = "frame"
    ) -> None:
        if random_noops < 0 or not 0.0 <= sticky <= 1.0:
            raise ValueError(
                "env: expected random_noops >= 0 and 0 <= sticky <= 1; "
                f"got random_noops={random_noops}, sticky={sticky}."
            )
        if sticky_unit not in ("frame", "step"):
            raise ValueError(f"env.sticky_unit: got {sticky_unit!r}, expected frame or step.")
        self.random_noops, self.sticky, self.sticky_unit = random_noops, sticky, sticky_unit
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Begin both sources anew."""
        self._noops, self._sticky = Random(f"noops {seed}"), Random(f"sticky {seed}")
        self._stage = Random(f"stage {seed}")

    def noops(self) -> int:
        """Draw the number of opening frames without a button, 0 to `random_noops`."""
        return self._noops.randint(0, self.random_noops) if self.random_noops else 0

    def sticks(self) -> bool:
        """Draw whether the previous buttons are held once more."""
        return self.sticky > 0 and self._sticky.random() < self.sticky

    def stage(self, count: int) -> int:
        """Draw a stage, 0 to count - 1."""
        return self._stage.randrange(count)

    def state(self) -> Tensor:
        """Return the state of all sources, int64 [3, 625]."""
        sources = (self._noops, self._sticky, self._stage)
        return torch.tensor([source.getstate()[1] for source in sources])

    def load(self, state: Tensor) -> None:
        """Continue from what `state` returned."""
        sources = (self._noops, self._sticky, self._stage)
        for source, words in zip(sources, state.tolist(), strict=False):  # older states hold two
            source.setstate((3, tuple(words), None))
