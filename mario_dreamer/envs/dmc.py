"""DeepMind Control Suite through TorchRL's wrapper, from sensors or from pixels."""

from __future__ import annotations

import functools
import os
from ctypes.util import find_library
from typing import Any

import numpy as np
from torchrl.envs import CatTensors, DMControlWrapper, EnvBase, TransformedEnv

from mario_dreamer.checks import require_package
from mario_dreamer.envs.base import check_at_least_one
from mario_dreamer.envs.gymnasium import batch_of
from mario_dreamer.envs.torchrl import with_agent_interface
from mario_dreamer.keys import VECTOR


class RenderedDMControl(DMControlWrapper):
    """TorchRL's wrapper with a `render()`, so that an agent that reads sensors can be filmed."""

    def render(self) -> np.ndarray:
        """Return the first camera's picture, uint8 [240, 320, 3]."""
        return self.physics.render(240, 320, camera_id=0)


class Repeated:
    """A dm_control env that plays each action several times; so only the last frame is rendered.

    Args:
        env: the env; all but `step` is its own.
        times: at least 1; rewards are summed, an end cuts it short.
    """

    def __init__(self, env: Any, times: int) -> None:
        self.env, self.times = env, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def step(self, action: np.ndarray) -> Any:
        """Play the action; return the last time step with the sum of rewards."""
        reward = 0.0
        for _ in range(self.times):
            moment = self.env.step(action)
            reward += moment.reward or 0.0
            if moment.last():
                break
        return moment._replace(reward=reward)


def _make_task(task: str, pixels: bool, image_size: int, action_repeat: int) -> EnvBase:
    if "DISPLAY" not in os.environ and find_library("EGL"):
        os.environ.setdefault("MUJOCO_GL", "egl")  # MuJoCo itself would look for a screen
    try:
        require_package("dm_control", "dmc", f"env.task={task}")
    except ImportError as error:  # the extra leaves it out there, as a part of it has no wheel
        raise ImportError(f"{error}; on Python 3.13 also: pip install --no-deps dm_control") from error
    from dm_control import suite

    pairs = {f"{domain}_{name}": (domain, name) for domain, name in suite.ALL_TASKS}
    if task not in pairs:
        raise ValueError(f"env.task={task}: expected one of {', '.join(sorted(pairs))}.")
    env = suite.load(*pairs[task])
    if pixels:
        from dm_control.suite.wrappers import pixels as pictures

        camera = {"height": image_size, "width": image_size, "camera_id": 0}
        return RenderedDMControl(pictures.Wrapper(Repeated(env, action_repeat), True, camera))
    env = RenderedDMControl(env, frame_skip=action_repeat)
    sensors = sorted(env.observation_spec.keys())
    return TransformedEnv(env, CatTensors(sensors, VECTOR, del_keys=True))


def make_dmc_env(
    task: str = "cartpole_swingup",
    num_envs: int = 1,
    seed: int = 0,
    pixels: bool = False,
    image_size: int = 64,
    action_repeat: int = 2,
    parallel: bool = False,
) -> EnvBase:
    """Make N copies of a task of the DeepMind Control Suite; an episode is 1,000 frames.

    Args:
        task: domain and task, such as "walker_walk".
        num_envs, seed, parallel: see `make_gym_env`.
        pixels: learn from the first camera's picture (MUJOCO_GL=egl or osmesa without a screen)
            instead of all sensors in one vector.
        image_size: side of the square picture.
        action_repeat: frames per agent step; divides 1,000.

    Raises:
        ImportError: dm_control is missing. ValueError: an unknown task.
    """
    check_at_least_one(action_repeat=action_repeat)
    if 1000 % action_repeat:
        raise ValueError(f"env.action_repeat={action_repeat}: expected a divisor of 1,000.")
    make = functools.partial(_make_task, task, pixels, image_size, action_repeat)
    return with_agent_interface(batch_of(num_envs, make, seed, parallel), image_size)
