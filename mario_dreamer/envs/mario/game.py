"""One emulator under one agent: episodes, repeated buttons, and a tape to resume from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mario_dreamer.envs.mario.emulator import SCREEN, copy_screen, make_emulator
from mario_dreamer.envs.mario.randomness import Chance
from mario_dreamer.envs.mario.rewards import MarioReward

STAGE_ORDERS = ("balanced", "turn", "random")


class Game:
    """Play stages in agent steps of `action_repeat` raw frames.

    The emulator is deterministic, so the buttons pressed since the reset say exactly where the
    game stands. They are kept on `tape`, one byte per raw frame, because the emulator's own
    snapshots cannot leave the process.

    Args:
        stages: "w-s" each; an episode plays one of them. Each has an emulator of its own, started
            when it is first played.
        rules: what a raw frame pays.
        action_repeat: raw frames per agent step; an episode's end cuts them short.
        max_pool: take the brighter of the last two raw frames of a whole step, against flicker.
        chance: no-op starts, sticky actions and random stages.
        stage_order: which stage the next episode plays: "balanced", the one with the fewest agent
            steps so far; "turn", one after the other; "random".
        first: number of the stage that is played first; ties and turns begin there.

    Attributes:
        stage: number of the stage that is played now, an index of `stages`.
        played: agent steps played in each stage.
    """

    def __init__(
        self,
        stages: Sequence[str],
        rules: MarioReward,
        action_repeat: int,
        max_pool: bool,
        chance: Chance,
        stage_order: str = "balanced",
        first: int = 0,
    ) -> None:
        if stage_order not in STAGE_ORDERS:
            raise ValueError(
                f"env.stage_order: got {stage_order!r}, expected one of {list(STAGE_ORDERS)}."
            )
        self.stages, self.stage_order = tuple(stages), stage_order
        self.first = self.stage = first % len(self.stages)
        self.played = [0] * len(self.stages)
        self._emulators: dict[int, Any] = {}
        self.rules, self.action_repeat, self.max_pool = rules, action_repeat, max_pool
        self.chance = chance
        self.info: dict[str, Any] = {}
        self.over = True  # nothing to step before the first reset
        self._opened = False
        self.tape = bytearray()
        self.held: int | None = None  # the byte of the last raw frame; None: the episode's first
        self._older, self._newer = np.empty(SCREEN, np.uint8), np.empty(SCREEN, np.uint8)
        assert self.emulator is not None  # a missing emulator is noticed here

    @property
    def emulator(self) -> Any:
        """The emulator of the stage that is played now."""
        if self.stage not in self._emulators:
            self._emulators[self.stage] = make_emulator(self.stages[self.stage])
        return self._emulators[self.stage]

    def close(self) -> None:
        """Free the emulators."""
        for emulator in self._emulators.values():
            emulator.close()

    def begin(self) -> np.ndarray:
        """Open an episode and return its screen, uint8 [240, 256, 3], valid until the next call."""
        if self._opened:
            self.stage = self._next_stage()
        self._opened = True
        self.rewind()
        for _ in range(self.chance.noops()):
            self._frame(0)
            if self.over:  # no stage kills an idle Mario within 30 frames, but be sure
                self.rewind()
                break
        copy_screen(self.emulator, self._newer)
        return self._newer

    def _next_stage(self) -> int:
        count = len(self.stages)
        if self.stage_order == "turn":
            return (self.stage + 1) % count
        if self.stage_order == "random":
            return self.chance.stage(count)
        order = [(self.first + offset) % count for offset in range(count)]
        return min(order, key=self.played.__getitem__)

    def play(self, byte: int) -> tuple[np.ndarray, float]:
        """Take one agent step; a game that is over stands still and pays nothing.

        Args:
            byte: the buttons, 0 to 255.

        Returns:
            The screen, uint8 [240, 256, 3], valid until the next call, and the reward.
        """
        if self.over:
            return self._newer, 0.0
        per_frame = self.chance.sticky_unit == "frame"
        if not per_frame:
            byte = self._sticky(byte)
        reward = 0.0
        self.played[self.stage] += 1
        for frame in range(1, self.action_repeat + 1):
            reward += self._frame(self._sticky(byte) if per_frame else byte)
            if self.over:
                break
            if self.max_pool and frame == self.action_repeat - 1:
                copy_screen(self.emulator, self._older)
        copy_screen(self.emulator, self._newer)
        if self.max_pool and 1 < frame == self.action_repeat:
            return np.maximum(self._older, self._newer, out=self._older), reward
        return self._newer, reward  # a step cut short shows its last frame alone

    def _sticky(self, byte: int) -> int:
        """The chosen buttons, or those held before; the first ones of an episode never stick."""
        if not (self.chance.sticks() and self.held is not None):
            self.held = byte
        return self.held

    def rewind(self) -> None:
        """Put the emulator at the start of the stage, before any no-ops."""
        _, self.info = self.emulator.reset()
        self.over, self.held = False, None
        self.tape.clear()

    def replay(self, tape: bytes, held: int | None, stage: int = 0, played: Sequence[int] = ()) -> None:
        """Bring the game to where it was saved; about 1 ms per frame.

        Args:
            tape: the buttons of each raw frame since the reset.
            held: the buttons held.
            stage, played: as the attributes; by default those of a game of one stage.
        """
        self.stage, self._opened = stage, True
        self.played = list(played) or [0] * len(self.stages)
        self.rewind()
        for byte in tape:
            self._frame(byte)
        self.held = held

    def _frame(self, byte: int) -> float:
        _, package_reward, self.over, _, info = self.emulator.step(byte)
        before, self.info = self.info, info
        self.tape.append(byte)
        return self.rules(before, info, self.over, package_reward)
