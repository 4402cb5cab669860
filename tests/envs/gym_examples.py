"""Gymnasium envs for tests: any observation space, with or without a picture."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class SampledEnv(gymnasium.Env):
    """Observe samples of a space; the episode ends after `length` steps, reward = action sum.

    Args:
        space: of the observations.
        actions: the action space.
        length: steps of an episode.
        first: what `reset` returns instead of a sample.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        space: spaces.Space,
        actions: spaces.Space | None = None,
        length: int = 5,
        first: Any = None,
        render_mode: str | None = None,
    ) -> None:
        self.observation_space, self.render_mode = space, render_mode
        self.action_space = spaces.Discrete(3) if actions is None else actions
        self.length, self.first, self.taken = length, first, []
        space.seed(0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.t = 0
        return (self.observation_space.sample() if self.first is None else self.first), {}

    def step(self, action: Any):
        self.t += 1
        self.taken.append(action)
        reward = float(np.sum(action))
        return self.observation_space.sample(), reward, self.t == self.length, False, {}

    def render(self) -> np.ndarray:
        return np.full((20, 30, 3), 10 * self.t, np.uint8)


gymnasium.register("DreamerTest/Sampled-v0", SampledEnv)
