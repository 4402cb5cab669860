"""MiniGrid: small grids seen from within, with keys and doors."""

from __future__ import annotations

import functools

import gymnasium
from torchrl.envs import EnvBase

from mario_dreamer.checks import require_package
from mario_dreamer.envs.base import check_plays_each_action_once
from mario_dreamer.envs.gymnasium import batch_of, plain_env
from mario_dreamer.envs.torchrl import with_agent_interface


def _make_grid(task: str, max_steps: int | None) -> EnvBase:
    require_package("minigrid", "minigrid", f"env.task={task}")
    from minigrid.wrappers import OneHotPartialObsWrapper

    limit = {} if max_steps is None else {"max_steps": max_steps}
    try:
        env = gymnasium.make(task, render_mode="rgb_array", **limit)
    except gymnasium.error.Error as error:
        raise ValueError(f"env.task={task}: MiniGrid has no such task ({error}).") from error
    return plain_env(OneHotPartialObsWrapper(env), observations=["image"])


def make_minigrid_env(
    task: str = "MiniGrid-Empty-5x5-v0",
    num_envs: int = 1,
    seed: int = 0,
    max_steps: int | None = None,
    action_repeat: int = 1,
    parallel: bool = False,
) -> EnvBase:
    """Make N copies of a MiniGrid task, observed as `vector`: what lies on 7 x 7 squares, one-hot.

    The mission, a text, is left out.

    Args:
        task: as registered, e.g. "MiniGrid-DoorKey-5x5-v0".
        num_envs, seed, parallel: see `make_gym_env`.
        max_steps: until truncation; None: the task's own limit. The reward at the goal is
            1 - 0.9 * steps / max_steps.
        action_repeat: 1; kept for the common signature.

    Raises:
        ImportError: minigrid is missing. ValueError: an unknown task.
    """
    check_plays_each_action_once(action_repeat)
    make = functools.partial(_make_grid, task, max_steps)
    return with_agent_interface(batch_of(num_envs, make, seed, parallel))
