"""One game of Mario for Gymnasium, and through `GymWrapper` for TorchRL, in raw frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from torchrl.data import Unbounded
from torchrl.envs import GymWrapper
from torchrl.envs.gym_like import default_info_dict_reader

from mario_dreamer.envs.mario.emulator import SCREEN
from mario_dreamer.envs.mario.game import NUMBERS, TRACK, Game, number_specs


class GymMario(gymnasium.Env):
    """Offer a `Game` through Gymnasium's interface.

    The observation is the raw screen, uint8 [240, 256, 3]. The action is one controller byte,
    int16 [1]; -1 plays no frame. A game that is over stands still and gives no reward. The info
    holds the `NUMBERS` and the `TRACK` as tensors.
    """

    observation_space = gymnasium.spaces.Box(0, 255, SCREEN, np.uint8)
    action_space = gymnasium.spaces.Box(-1, 255, (1,), np.int16)

    def __init__(self, game: Game) -> None:
        self.game = game

    def _seen(self, before: tuple[int, int]) -> tuple[np.ndarray, dict[str, Any]]:
        numbers = zip(NUMBERS.items(), self.game.numbers, strict=True)
        info = {key: torch.tensor([number], dtype=dtype) for (key, dtype), number in numbers}
        return self.game.screen(), info | {TRACK: torch.tensor([before, self.game.place])}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Open an episode."""
        if seed is not None:
            self.game.set_seed(seed)
        self.game.begin()
        return self._seen(self.game.place)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Play one raw frame."""
        byte, game, before = int(action[0]), self.game, self.game.place
        reward = game.press(byte) if byte >= 0 and not game.over else 0.0
        screen, info = self._seen(before)
        return screen, reward, game.over, False, info

    def close(self) -> None:
        """Free the emulators."""
        self.game.close()


def make_single_mario(
    stages: Sequence[str], stage_order: str = "balanced", seed: int = 0, first: int = 0
) -> GymWrapper:
    """Make one game in raw frames as a TorchRL env of batch size []; arguments as of `Game`."""
    game = GymWrapper(GymMario(Game(stages, stage_order, seed, first)), device="cpu")
    specs = {**number_specs(), TRACK: Unbounded([2, 2], dtype=torch.int64)}
    game.set_info_dict_reader(default_info_dict_reader(list(specs), specs))
    return game
