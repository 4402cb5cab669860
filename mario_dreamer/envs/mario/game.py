"""One game of Mario, raw frame by raw frame, with the buttons pressed since its reset."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import torch
from torchrl.data import Binary, TensorSpec, Unbounded

from mario_dreamer.envs.mario.emulator import INFO, SCREEN, copy_screen, make_emulator, read_info

# What the TensorDict carries next to the picture, [N, 1] each, in the order of `Game.numbers`.
NUMBERS = {key: dtype for key, (_, dtype) in INFO.items()} | {
    "stage_index": torch.int64,  # which of the env's stages is played
    "episode_seed": torch.int64,  # a number of 62 bits; all randomness of the episode follows
}
TRACK = "track"  # x and clock before a step and after each of its K raw frames, int64 [N, K + 1, 2]


def number_specs() -> dict[str, TensorSpec]:
    """Describe `NUMBERS`, [1] each."""
    return {
        key: Binary(1, [1], dtype=dtype) if dtype == torch.bool else Unbounded([1], dtype=dtype)
        for key, dtype in NUMBERS.items()
    }


class Game:
    """Play one of several stages per episode.

    The emulator is deterministic, so the buttons pressed since the reset determine its state.
    They are kept in `pressed`, because the emulator's own snapshots cannot leave the process.

    Args:
        stages: "w-s" each; each has an emulator of its own, started when it is first played.
        stage_order: the stage of the next episode: "balanced", the one with the fewest raw frames
            so far; "turn", one after the other; "random".
        seed: of the episode seeds and of the random stages.
        first: number of the stage of the first episode; ties and turns start from it.

    Attributes:
        stage: number of the stage that is played now, an index of `stages`.
        played: raw frames played in each stage.
        pressed: controller bytes of this episode, one per raw frame.
        info: the emulator's info of the last frame.
        over: whether the episode has ended by the rules; True before the first `begin`.
        episode_seed: see `NUMBERS`.
    """

    def __init__(
        self, stages: Sequence[str], stage_order: str = "balanced", seed: int = 0, first: int = 0
    ) -> None:
        self.stages, self.stage_order = tuple(stages), stage_order
        self.first = self.stage = first % len(self.stages)
        self._emulators: dict[int, Any] = {}
        self.info: dict[str, Any] = {}
        self.over, self.pressed, self.episode_seed = True, bytearray(), 0
        self.set_seed(seed)
        _ = self.emulator  # a missing emulator is reported here

    @property
    def emulator(self) -> Any:
        """The emulator of the stage that is played now."""
        if self.stage not in self._emulators:
            self._emulators[self.stage] = make_emulator(self.stages[self.stage])
        return self._emulators[self.stage]

    @property
    def numbers(self) -> list[int]:
        """The numbers of the last frame, in the order of `NUMBERS`."""
        return [*read_info(self.info), self.stage, self.episode_seed]

    @property
    def place(self) -> tuple[int, int]:
        """x and clock of the last frame."""
        return int(self.info["x_pos"]), int(self.info["time"])

    def screen(self) -> np.ndarray:
        """Return a copy of the raw screen, uint8 [240, 256, 3]."""
        screen = np.empty(SCREEN, np.uint8)
        copy_screen(self.emulator, screen)
        return screen

    def set_seed(self, seed: int) -> None:
        """Let the next episode be the first one of this seed."""
        self.seed, self.episode, self.played = seed, -1, [0] * len(self.stages)

    def begin(self) -> None:
        """Open the next episode; one of which no frame was played is opened again."""
        if self.pressed or self.episode < 0:
            self.episode += 1
            self.stage = self._next_stage()
        self._rewind()

    def _next_stage(self) -> int:
        count = len(self.stages)
        if self.stage_order == "random":
            return Random(f"stage {self.seed} {self.episode}").randrange(count)
        order = [(self.first + offset) % count for offset in range(count)]
        if self.stage_order == "turn":
            return order[self.episode % count]
        return min(order, key=self.played.__getitem__)

    def _rewind(self) -> None:
        _, self.info = self.emulator.reset()
        self.over = False
        self.pressed.clear()
        self.episode_seed = Random(f"episode {self.seed} {self.episode}").getrandbits(62)

    def press(self, byte: int) -> float:
        """Play one raw frame with these buttons held, 0 to 255; return the package's own reward."""
        _, reward, self.over, _, self.info = self.emulator.step(byte)
        self.pressed.append(byte)
        self.played[self.stage] += 1
        return reward

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs, as tensors and numbers."""
        pressed = torch.tensor(list(self.pressed), dtype=torch.uint8)
        numbers = {"seed": self.seed, "episode": self.episode, "stage": self.stage}
        return {"pressed": pressed, "played": list(self.played), **numbers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Come back to a saved moment by pressing its buttons again; about 1 ms per frame."""
        self.seed, self.episode, self.stage = (state[k] for k in ("seed", "episode", "stage"))
        self._rewind()
        for byte in state["pressed"].tolist():
            self.press(byte)
        self.played = list(state["played"])

    def close(self) -> None:
        """Free the emulators; where they are needed again, new ones start."""
        emulators, self._emulators = self._emulators, {}
        for emulator in emulators.values():
            emulator.close()
