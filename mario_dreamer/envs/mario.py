"""make_mario_env: Super Mario Bros as a TorchRL environment, ready for a run."""

from __future__ import annotations

from collections.abc import Sequence

from torchrl.envs import TransformedEnv

from mario_dreamer.envs.base import with_bookkeeping
from mario_dreamer.envs.batched import BatchedMario
from mario_dreamer.envs.rewards import MarioReward


def make_mario_env(
    num_envs: int = 1,
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
    backend: str = "batched",
    threads: int | None = None,
) -> TransformedEnv:
    """Make N games of Mario."""
    return with_bookkeeping(
        BatchedMario(
            num_envs, stage, action_set, image_size, action_repeat, max_pool, crop_top, reward,
            max_steps, stall_limit, random_noops, sticky, threads, seed,
        )
    )
