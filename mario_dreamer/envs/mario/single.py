"""One game of Mario out of Gymnasium and TorchRL pieces: slower, but every part is in sight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from tensordict import TensorDictBase
from torchrl.data import TensorSpec
from torchrl.envs import Compose, GymWrapper, TransformedEnv
from torchrl.envs.gym_like import BaseInfoDictReader

from mario_dreamer.envs.mario.emulator import (
    INFO,
    SCREEN,
    actions_of,
    button_byte,
    copy_screen,
    info_specs,
    make_emulator,
    read_info,
)
from mario_dreamer.envs.mario.randomness import Chance
from mario_dreamer.envs.mario.rewards import MarioReward
from mario_dreamer.envs.mario.transforms import (
    ActionRepeat,
    FrameReward,
    Limits,
    ResizeScreen,
    StickyAction,
)


class MarioGym(gymnasium.Wrapper):
    """Give the emulator the agent's actions, a copied screen and a random opening.

    Args:
        emulator: the unwrapped emulator; one `step` is one raw frame.
        actions: names of the actions, [A].
        chance: draws the number of opening no-ops.
    """

    def __init__(self, emulator: gymnasium.Env, actions: Sequence[str], chance: Chance) -> None:
        super().__init__(emulator)
        self.bytes, self.chance = [button_byte(name) for name in actions], chance
        self.action_space = gymnasium.spaces.Discrete(len(self.bytes))

    def _screen(self) -> np.ndarray:
        screen = np.empty(SCREEN, np.uint8)
        copy_screen(self.env, screen)
        return screen

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Open an episode with its no-ops; a seeded reset leaves the source freshly seeded."""
        if seed is not None:
            self.chance.seed(seed)
        _, info = self.env.reset(seed=seed, options=options)
        for _ in range(self.chance.noops()):
            _, _, terminated, _, info = self.env.step(0)
            if terminated:
                _, info = self.env.reset()
                break
        screen = self._screen()
        if seed is not None:  # TorchRL seeds by a reset of its own, before the first episode
            self.chance.seed(seed)
        return screen, info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Play one raw frame."""
        _, reward, terminated, truncated, info = self.env.step(self.bytes[int(action)])
        return self._screen(), reward, terminated, truncated, info


class InfoReader(BaseInfoDictReader):
    """Copy the facts of `INFO` into the TensorDict, [1] each; TorchRL's own reader crashes."""

    def __call__(self, info_dict: dict[str, Any], tensordict: TensorDictBase) -> TensorDictBase:
        for (key, (_, dtype)), fact in zip(INFO.items(), read_info(info_dict), strict=True):
            tensordict.set(key, torch.tensor([fact], dtype=dtype))
        return tensordict

    @property
    def info_spec(self) -> dict[str, TensorSpec]:
        """Describe the facts."""
        return info_specs()


def make_single_mario(
    seed: int = 0,
    stage: str = "1-1",
    action_set: str | Sequence[str] = "simple",
    image_size: int = 64,
    action_repeat: int = 4,
    max_pool: bool = True,
    crop_top: int = 0,
    reward: MarioReward | None = None,
    max_steps: int | None = 27000,
    stall_limit: int | None = None,
    random_noops: int = 0,
    sticky: float = 0.0,
) -> TransformedEnv:
    """Make one game as a stack of TorchRL transforms, batch size []; options as `BatchedMario`."""
    chance = Chance(seed, random_noops, sticky, "step")
    game = GymWrapper(MarioGym(make_emulator(stage), actions_of(action_set), chance), device="cpu")
    game.set_info_dict_reader(InfoReader())
    chance.seed(seed)  # whatever was drawn while TorchRL looked at the game
    return TransformedEnv(
        game,
        Compose(
            FrameReward(MarioReward() if reward is None else reward),
            ActionRepeat(action_repeat, max_pool),
            StickyAction(chance),
            ResizeScreen(image_size, crop_top),
            Limits(max_steps, stall_limit),
        ),
    )
