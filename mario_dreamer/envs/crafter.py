"""Crafter: an open world of survival with 22 achievements, from images."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from torchrl.envs import EnvBase

from mario_dreamer.checks import require_package
from mario_dreamer.envs.base import check_plays_each_action_once
from mario_dreamer.envs.gymnasium import batch_of, plain_env
from mario_dreamer.envs.torchrl import with_agent_interface
from mario_dreamer.keys import STATS


class GymCrafter(gymnasium.Env):
    """Offer the package's env, of Gym's first interface, through Gymnasium's.

    Death is terminal and the limit of steps a truncation. `info["stats"]` holds each
    achievement as 1 once it is unlocked in the episode, else 0.

    Args:
        image_size: side of the square picture.
        max_steps: until truncation.
    """

    def __init__(self, image_size: int, max_steps: int) -> None:
        self.package = require_package("crafter", "crafter", "env=crafter")
        self.image_size, self.max_steps = image_size, max_steps
        self._open(0)
        self.observation_space = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        self.action_space = spaces.Discrete(len(self.env.action_names))
        achievements = sorted(self.package.constants.achievements)
        self.info = {STATS: dict.fromkeys(achievements, 0.0)}  # of a reset

    def _open(self, seed: int) -> None:
        side = self.image_size
        self.env = self.package.Env(size=(side, side), length=self.max_steps, seed=seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Open a new world, the first one of the seed where one is given; it takes a second."""
        if seed is not None:
            self._open(seed)
        return self.env.reset(), self.info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Play one step: +1 for each first achievement, +-0.1 for each point of health."""
        picture, reward, is_over, info = self.env.step(int(action))
        is_dead = info["discount"] == 0
        counts = info["achievements"]
        stats = {name: float(counts[name] > 0) for name in self.info[STATS]}
        return picture, float(reward), is_dead, is_over and not is_dead, {STATS: stats}


def _make_world(image_size: int, max_steps: int | None) -> EnvBase:
    env = GymCrafter(image_size, max_steps or 10_000)
    return plain_env(env, info=env.info)


def make_crafter_env(
    num_envs: int = 1,
    seed: int = 0,
    image_size: int = 64,
    max_steps: int | None = None,
    action_repeat: int = 1,
    parallel: bool = False,
) -> EnvBase:
    """Make N copies of Crafter; its achievements are logged as `play/stats/NAME`.

    Args:
        num_envs, seed, parallel: see `make_gym_env`.
        image_size: side of the square picture.
        max_steps: until truncation; None: the package's own 10,000.
        action_repeat: 1; kept for the common signature.

    Raises:
        ImportError: crafter is missing.
    """
    check_plays_each_action_once(action_repeat)
    make = functools.partial(_make_world, image_size, max_steps)
    return with_agent_interface(batch_of(num_envs, make, seed, parallel), image_size)
