"""One emulator under one agent: episodes, repeated buttons, and a tape to resume from."""

from __future__ import annotations

from typing import Any

import numpy as np

from mario_dreamer.envs.mario.emulator import SCREEN, copy_screen, make_emulator
from mario_dreamer.envs.mario.randomness import Chance
from mario_dreamer.envs.mario.rewards import MarioReward


class Game:
    """Play one stage in agent steps of `action_repeat` raw frames.

    The emulator is deterministic, so the buttons pressed since the reset say exactly where the
    game stands. They are kept on `tape`, one byte per raw frame, because the emulator's own
    snapshots cannot leave the process.

    Args:
        stage: "w-s".
        rules: what a raw frame pays.
        action_repeat: raw frames per agent step; an episode's end cuts them short.
        max_pool: take the brighter of the last two raw frames of a whole step, against flicker.
        chance: no-op starts and sticky actions.
    """

    def __init__(
        self, stage: str, rules: MarioReward, action_repeat: int, max_pool: bool, chance: Chance
    ) -> None:
        self.emulator = make_emulator(stage)
        self.rules, self.action_repeat, self.max_pool = rules, action_repeat, max_pool
        self.chance = chance
        self.info: dict[str, Any] = {}
        self.over = True  # nothing to step before the first reset
        self.tape = bytearray()
        self.held: int | None = None  # the byte of the agent's last step
        self._older, self._newer = np.empty(SCREEN, np.uint8), np.empty(SCREEN, np.uint8)

    def begin(self) -> np.ndarray:
        """Open an episode and return its screen, uint8 [240, 256, 3], valid until the next call."""
        self.rewind()
        for _ in range(self.chance.noops()):
            self._frame(0)
            if self.over:  # no stage kills an idle Mario within 30 frames, but be sure
                self.rewind()
                break
        copy_screen(self.emulator, self._newer)
        return self._newer

    def play(self, byte: int) -> tuple[np.ndarray, float]:
        """Take one agent step; a game that is over stands still and pays nothing.

        Args:
            byte: the buttons, 0 to 255.

        Returns:
            The screen, uint8 [240, 256, 3], valid until the next call, and the reward.
        """
        if self.over:
            return self._newer, 0.0
        if self.chance.sticks() and self.held is not None:
            byte = self.held
        self.held = byte
        reward = 0.0
        for played in range(1, self.action_repeat + 1):
            reward += self._frame(byte)
            if self.over:
                break
            if self.max_pool and played == self.action_repeat - 1:
                copy_screen(self.emulator, self._older)
        copy_screen(self.emulator, self._newer)
        if self.max_pool and 1 < played == self.action_repeat:
            return np.maximum(self._older, self._newer, out=self._older), reward
        return self._newer, reward  # a step cut short shows its last frame alone

    def rewind(self) -> None:
        """Put the emulator at the start of the stage, before any no-ops."""
        _, self.info = self.emulator.reset()
        self.over, self.held = False, None
        self.tape.clear()

    def replay(self, tape: bytes, held: int | None) -> None:
        """Bring the game to where `tape` and `held` were saved; about 1 ms per frame."""
        self.rewind()
        for byte in tape:
            self._frame(byte)
        self.held = held

    def _frame(self, byte: int) -> float:
        _, package_reward, self.over, _, info = self.emulator.step(byte)
        before, self.info = self.info, info
        self.tape.append(byte)
        return self.rules(before, info, self.over, package_reward)
