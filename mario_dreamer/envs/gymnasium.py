"""Any Gymnasium world with discrete actions, by its id: what it shows or what it measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torchrl.data import Unbounded
from torchrl.envs import ObservationNorm, TransformedEnv

from mario_dreamer.envs.base import BatchedEnv, check_at_least_one, pixel_spec, with_bookkeeping
from mario_dreamer.envs.screens import check_picture, gray, shrink
from mario_dreamer.keys import PIXELS, VECTOR


class BatchedGym(BatchedEnv):
    """Play N copies of a Gymnasium world, one after the other.

    With `pixels`, the picture is the observation itself where that is a uint8 image
    [H, W, 3] or [H, W, 1], else what `render_mode="rgb_array"` draws. Without, the observation is
    flattened by `gymnasium.spaces.flatten` (a discrete one becomes one-hot).
    Gymnasium's own time limit and `max_steps` truncate.

    Args:
        env_id: as registered with Gymnasium, e.g. "CartPole-v1".
        num_envs: N.
        seed: world i is seeded with seed + i.
        pixels: see a picture (key `pixels`), else a vector (key `vector`).
        image_size: side of the square picture.
        grayscale: one channel instead of three.
        max_steps: agent steps until truncation; None: only the world's own limit.
        action_repeat: times each action is played; rewards are summed, an end cuts it short.
        options: further arguments of `gymnasium.make`.

    Raises:
        ValueError: unknown id, actions that are not discrete, or no picture to be had.
    """

    resumable = False  # Gymnasium worlds cannot tell where they stand

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        seed: int = 0,
        pixels: bool = True,
        image_size: int = 64,
        grayscale: bool = False,
        max_steps: int | None = None,
        action_repeat: int = 1,
        options: dict[str, Any] | None = None,
    ) -> None:
        check_at_least_one(num_envs=num_envs, action_repeat=action_repeat)
        worlds = [make_world(env_id, pixels, dict(options or {})) for _ in range(num_envs)]
        first = worlds[0]
        if not isinstance(first.action_space, spaces.Discrete) or first.action_space.start != 0:
            raise ValueError(
                f"env.env_id={env_id}: expected Discrete actions starting at 0, got "
                f"{first.action_space}. Wrap the world so that it takes an index."
            )
        if pixels:
            check_picture(image_size, 0, rows=1)
            observations = {PIXELS: pixel_spec(1 if grayscale else 3, image_size, image_size)}
        else:
            flat = spaces.flatdim(first.observation_space)
            observations = {VECTOR: Unbounded([flat], dtype=torch.float32)}
        super().__init__(num_envs, int(first.action_space.n), observations, max_steps, seed)
        self.worlds, self.action_repeat = worlds, action_repeat
        self.see_pixels, self.image_size, self.grayscale = pixels, image_size, grayscale
        self.seen = next(iter(self.observation_spec.values())).zero()  # [N, ...]

    def _set_seed(self, seed: int | None) -> None:
        super()._set_seed(seed)
        if seed is not None:  # each world takes its seed at its next reset
            self.seeds: list[int | None] = [seed + world for world in range(self.num_envs)]

    def _begin(self, mask: Tensor) -> None:
        for world in mask.nonzero().flatten().tolist():
            observation, _ = self.worlds[world].reset(seed=self.seeds[world])
            self.seeds[world] = None
            self._see(world, observation)

    def _advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rewards = torch.zeros(self.num_envs)
        terminated, truncated = self._terminated.clone(), self._truncated.clone()
        for world, index in enumerate(action.tolist()):
            if terminated[world] or truncated[world]:
                continue  # it has ended and waits for its reset
            for _ in range(self.action_repeat):
                observation, reward, *ends, _ = self.worlds[world].step(index)
                rewards[world] += float(reward)
                terminated[world], truncated[world] = bool(ends[0]), bool(ends[1])
                if any(ends):
                    break
            self._see(world, observation)
        return rewards, terminated, truncated

    def _see(self, world: int, observation: Any) -> None:
        space = self.worlds[world].observation_space
        if not self.see_pixels:
            flat = spaces.flatten(space, observation)
            self.seen[world] = torch.as_tensor(flat, dtype=torch.float32)
            return
        shown = observation if is_picture(space) else self.worlds[world].render()
        screen = torch.from_numpy(np.array(shown, dtype=np.uint8))  # [H, W, C]
        picture = shrink(screen, self.image_size, self.image_size)
        if not self.grayscale:
            self.seen[world] = picture  # one channel spreads over three
        else:
            self.seen[world] = gray(picture) if len(picture) == 3 else picture

    def _observe(self) -> dict[str, Tensor]:
        return {PIXELS if self.see_pixels else VECTOR: self.seen.clone()}

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Close the worlds."""
        if not self.is_closed:
            for world in self.worlds:
                world.close()
        super().close(raise_if_closed=raise_if_closed)


def is_picture(space: gymnasium.Space) -> bool:
    """Tell whether an observation is a uint8 image, [H, W, 3] or [H, W, 1]."""
    box = isinstance(space, spaces.Box) and space.dtype == np.uint8
    return box and len(space.shape) == 3 and space.shape[-1] in (1, 3)


def make_world(env_id: str, pixels: bool, options: dict[str, Any]) -> gymnasium.Env:
    """Make one world; with `pixels` it shows a picture, by observation or by rendering.

    Raises:
        ValueError: unknown id, or nothing to see.
    """
    try:
        world = gymnasium.make(env_id, **options)
        if not pixels or is_picture(world.observation_space):
            return world
        world.close()
        world = gymnasium.make(env_id, render_mode="rgb_array", **options)
        world.reset(seed=0)
        shown = world.render()
    except gymnasium.error.DependencyNotInstalled as error:
        raise ValueError(
            f"env.env_id={env_id}: a package it needs is missing ({error}). Install it, or set "
            "env.pixels=false if the world also gives a vector."
        ) from error
    except gymnasium.error.Error as error:
        raise ValueError(
            f"env.env_id: Gymnasium cannot make {env_id!r} ({error}). "
            "Import the package that registers it, or correct the id."
        ) from error
    if not isinstance(shown, np.ndarray) or shown.ndim != 3:
        raise ValueError(
            f"env.env_id={env_id}: expected render() to return an image [H, W, 3], got "
            f"{type(shown).__name__}. Set env.pixels=false to learn from its vector."
        )
    return world


def make_gym_env(
    env_id: str,
    num_envs: int = 1,
    seed: int = 0,
    pixels: bool = True,
    image_size: int = 64,
    grayscale: bool = False,
    max_steps: int | None = None,
    action_repeat: int = 1,
    options: dict[str, Any] | None = None,
    scale: Sequence[float] | None = None,
) -> TransformedEnv:
    """Make N copies of a Gymnasium world with the bookkeeping of a run.

    Args:
        scale: the vector's numbers are multiplied by these, [D]. The decoder is paid by squared
            error, so what matters should move by about 1: an angle of 0.2 hardly pays to be drawn.
            None: as they are, and as the paper has them.
        env_id, num_envs, seed, pixels, image_size, grayscale, max_steps, action_repeat, options:
            see `BatchedGym`.

    Raises:
        ValueError: an option out of its range.
    """
    worlds = BatchedGym(
        env_id, num_envs, seed, pixels, image_size, grayscale, max_steps, action_repeat, options
    )
    env = with_bookkeeping(worlds)
    if scale is None:
        return env
    factors = torch.tensor([float(factor) for factor in scale])
    size = 0 if pixels else worlds.seen.shape[-1]
    if len(factors) != size or not bool((factors.isfinite() & (factors != 0)).all()):
        raise ValueError(
            f"env.scale={list(scale)}: expected "
            + (f"{size} finite numbers other than 0, one for each of the vector's."
               if size else "null: a picture has no scale. Set env.pixels=false for a vector.")
        )  # fmt: skip
    return env.append_transform(ObservationNorm(torch.zeros(size), factors, in_keys=[VECTOR]))
