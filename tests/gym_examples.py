"""Gymnasium envs for tests: any observation space, with or without a picture."""

from __future__ import annotations

from collections.abc import Sequence
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
        info: of every step and reset.
        mask: the observation's `action_mask`.
        legal: actions that are not refused by an error; None: all.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        space: spaces.Space,
        actions: spaces.Space | None = None,
        length: int = 5,
        first: Any = None,
        info: dict[str, Any] | None = None,
        mask: Sequence[int] | None = None,
        legal: Sequence[int] | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.observation_space, self.render_mode = space, render_mode
        self.action_space = spaces.Discrete(3) if actions is None else actions
        self.length, self.first, self.taken = length, first, []
        self.info, self.mask, self.legal = info or {}, mask, legal
        space.seed(0)

    def _see(self):
        seen = self.observation_space.sample()
        if self.mask is not None:
            seen["action_mask"] = np.array(self.mask, np.int8)
        return seen

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.t = 0
        return (self._see() if self.first is None else self.first), dict(self.info)

    def step(self, action: Any):
        if self.legal is not None and action not in self.legal:
            raise ValueError(f"{action} is not legal")
        self.t += 1
        self.taken.append(action)
        reward = float(np.sum(action))
        return self._see(), reward, self.t == self.length, False, dict(self.info)

    def render(self) -> np.ndarray:
        return np.full((20, 30, 3), 10 * self.t, np.uint8)


gymnasium.register("DreamerTest/Sampled-v0", SampledEnv)
