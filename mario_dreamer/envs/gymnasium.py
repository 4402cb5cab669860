"""Any Gymnasium env, by its id, through TorchRL's own wrapper."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from gymnasium.wrappers import AddRenderObservation, RepeatAction, TimeLimit
from torchrl.data import MultiOneHot
from torchrl.envs import EnvBase, GymWrapper, ObservationNorm, ParallelEnv, SerialEnv

from mario_dreamer.envs.actions import OwnActions
from mario_dreamer.envs.base import check_at_least_one
from mario_dreamer.envs.gymnasium_wrappers import (
    InfoReader,
    PlainActions,
    PlainSpaces,
    is_image,
    leaves,
)
from mario_dreamer.envs.torchrl import with_agent_interface
from mario_dreamer.keys import VECTOR

RENDER = "render"  # the name of a rendered picture among the observations


def plain_env(
    env: gymnasium.Env,
    from_render: bool = False,
    observations: Sequence[str] | None = None,
    max_steps: int | None = None,
    action_repeat: int = 1,
    info: Mapping[str, Any] | None = None,
) -> EnvBase:
    """Turn one Gymnasium env into a TorchRL env whose observations and actions are plain.

    Args:
        env: made with render_mode="rgb_array" where it is to be filmed or `from_render`.
        from_render, observations, max_steps, action_repeat: see `make_gym_env`.
        info: as of a reset, see `InfoReader`; None: resets the env to see one.

    Raises:
        ValueError: an observation that cannot be learned from, actions that no head writes, or no
            rendered picture.
    """
    if action_repeat > 1:
        env = RepeatAction(env, action_repeat)  # TorchRL's FrameSkipTransform steps past the end
    if max_steps is not None:
        env = TimeLimit(env, max_steps)
    if from_render:
        try:
            env = AddRenderObservation(env, False, RENDER, "observation")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the env renders no picture to learn from ({error}). Set env.from_render=false "
                "and env.pixels=null."
            ) from error
        observations = [RENDER]
    env = PlainActions(env)
    wrapped = GymWrapper(PlainSpaces(env, observations))
    if isinstance(env.action_space, spaces.MultiDiscrete):  # TorchRL stacks equal ones, [k, n]
        wrapped.action_spec = MultiOneHot(env.action_space.nvec.tolist(), dtype=torch.int64)
    wrapped.set_info_dict_reader(InfoReader(env.reset()[1] if info is None else info))
    return wrapped


def _make_one(
    env_id: str, options: dict[str, Any], from_render: bool, pixels: bool | None, **choices: Any
) -> EnvBase:
    """Make one env by its id, so that it renders where it has no image to be filmed by."""
    try:
        env = gymnasium.make(env_id, **options)
        found = {name: is_image(space) for name, _, space in leaves(env.observation_space)}
        has_image = any(found.values())
        if pixels is True and not has_image:
            from_render = True
        can_render = "rgb_array" in (env.metadata.get("render_modes") or ())
        if (from_render or not has_image) and can_render and "render_mode" not in options:
            env.close()
            env = gymnasium.make(env_id, render_mode="rgb_array", **options)
        if pixels is False and has_image:
            choices["observations"] = [name for name, is_one in found.items() if not is_one]
        return plain_env(env, from_render, **choices)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ValueError(
            f"env.env_id={env_id}: a package that it needs is missing ({error}). Install it."
        ) from error
    except gymnasium.error.Error as error:
        raise ValueError(
            f"env.env_id: Gymnasium cannot make {env_id!r} ({error}). "
            "Import the package that registers it, or correct the id."
        ) from error


def batch_of(
    num_envs: int, make: Callable[[], EnvBase], seed: int, parallel: bool = False
) -> EnvBase:
    """Put N envs into one, one after the other or each in a process, and seed them.

    Args:
        num_envs: N, at least 1.
        make: makes one of them; for `parallel` it can be pickled.
        seed: of the first; the others' follow from it.
        parallel: TorchRL's `ParallelEnv` instead of its `SerialEnv`.
    """
    check_at_least_one(num_envs=num_envs)
    env = (ParallelEnv if parallel else SerialEnv)(num_envs, make)
    env.set_seed(seed)
    return env


def make_gym_env(
    env_id: str,
    num_envs: int = 1,
    seed: int = 0,
    from_render: bool = False,
    observations: str | Sequence[str] | None = None,
    image_size: int | Sequence[int] | None = 64,
    grayscale: bool = False,
    max_steps: int | None = None,
    action_repeat: int = 1,
    options: dict[str, Any] | None = None,
    scale: Sequence[float] | None = None,
    parallel: bool = False,
    pixels: bool | None = None,
) -> EnvBase:
    """Make N copies of a Gymnasium env with what a run needs, see `with_agent_interface`.

    Args:
        env_id: as registered with Gymnasium, e.g. "CartPole-v1"; "module:id" imports the module.
        num_envs: N.
        seed: of the first env.
        from_render: learn from the picture that `render()` draws instead of the observation.
        observations: pattern, or patterns, of the observations to learn from; None: all of them.
        image_size, grayscale: of images, see `ToObservations`.
        max_steps: agent steps until truncation; None: only the env's own limit.
        action_repeat: times each action is played; rewards are summed, an end cuts it short.
        options: further arguments of `gymnasium.make`.
        scale: the vector's numbers are multiplied by these, [V]. The decoder is trained by squared
            error, so what matters should change by about 1. None: as they are.
        parallel: one process per env.
        pixels: false: no images; true: `from_render` where the observation holds no image. (What
            checkpoints of 2026 store.)

    Raises:
        ValueError: unknown id, an option out of its range, or nothing that can be learned from.
    """
    check_at_least_one(action_repeat=action_repeat, max_steps=max_steps)
    observations = [observations] if isinstance(observations, str) else observations
    make = functools.partial(
        _make_one, env_id, dict(options or {}), from_render, pixels,
        observations=observations, max_steps=max_steps, action_repeat=action_repeat,
    )  # fmt: skip
    env = batch_of(num_envs, make, seed, parallel)
    own = OwnActions(**env.get_wrapper_attr("own_actions")[0])  # of the first, in any process
    env = with_agent_interface(env, image_size, grayscale).append_transform(own)
    if scale is None:
        return env
    factors = torch.tensor([float(factor) for factor in scale])
    spec = env.observation_spec.get(VECTOR, None)
    size = 0 if spec is None else spec.shape[-1]
    if len(factors) != size or not bool((factors.isfinite() & (factors != 0)).all()):
        raise ValueError(
            f"env.scale={list(scale)}: expected "
            + (f"{size} finite numbers other than 0, one for each of the vector's."
               if size else "null: an image has no scale.")
        )  # fmt: skip
    return env.append_transform(ObservationNorm(torch.zeros(size), factors, in_keys=[VECTOR]))
