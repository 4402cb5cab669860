"""A user's own TorchRL env in fifteen lines: what `env._target_` can name."""

from __future__ import annotations

import gymnasium
from torchrl.envs import EnvBase, GymWrapper, SerialEnv


def make_env(num_envs: int = 1, seed: int = 0, task: str = "CartPole-v1") -> EnvBase:
    """Make N copies; the run adds is_init, step_count and episode_reward itself."""
    env = SerialEnv(num_envs, lambda: GymWrapper(gymnasium.make(task, render_mode="rgb_array")))
    env.set_seed(seed)
    return env
