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
        sticky: probability that an agent step repeats the previous action instead.

    Raises:
        ValueError: random_noops below 0, or sticky outside [0, 1].
    """

    def __init__(self, seed: int, random_noops: int = 0, sticky: float = 0.0) -> None:
        if random_noops < 0 or not 0.0 <= sticky <= 1.0:
            raise ValueError(
                "env: expected random_noops >= 0 and 0 <= sticky <= 1; "
                f"got random_noops={random_noops}, sticky={sticky}."
            )
        self.random_noops, self.sticky = random_noops, sticky
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Begin both sources anew."""
        self._noops, self._sticky = Random(f"noops {seed}"), Random(f"sticky {seed}")

    def noops(self) -> int:
        """Draw the number of opening frames without a button, 0 to `random_noops`."""
        return self._noops.randint(0, self.random_noops) if self.random_noops else 0

    def sticks(self) -> bool:
        """Draw whether this agent step repeats the previous action."""
        return self.sticky > 0 and self._sticky.random() < self.sticky

    def state(self) -> Tensor:
        """Return the state of both sources, int64 [2, 625]."""
        return torch.tensor([source.getstate()[1] for source in (self._noops, self._sticky)])

    def load(self, state: Tensor) -> None:
        """Continue from what `state` returned."""
        for source, words in zip((self._noops, self._sticky), state.tolist(), strict=True):
            source.setstate((3, tuple(words), None))
