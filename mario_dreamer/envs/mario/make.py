"""make_mario_env: Super Mario Bros as a TorchRL environment, ready for a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torchrl.envs import ParallelEnv, SerialEnv, TransformedEnv

from mario_dreamer.envs.base import check_at_least_one, with_bookkeeping
from mario_dreamer.envs.mario.batched import BatchedMario
from mario_dreamer.envs.mario.emulator import actions_of, import_emulator, parse_stage
from mario_dreamer.envs.mario.rewards import MarioReward
from mario_dreamer.envs.mario.single import make_single_mario
from mario_dreamer.envs.mario.transforms import DeathScreen

BACKENDS = ("batched", "transformed", "parallel")


def make_mario_env(
    num_envs: int = 1,
    seed: int = 0,
    stage: str | Sequence[str] = "1-1",
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
    sticky_unit: str = "frame",
    stage_order: str = "balanced",
    death_screen: str = "game",
    backend: str = "batched",
    threads: int | None = None,
) -> TransformedEnv:
    """Make N games of Mario with the bookkeeping of a run; all backends play the same game.

    Args:
        num_envs: N.
        seed: world i draws its no-ops and sticky actions from seed + i.
        death_screen: last picture of an episode that ends in a death: "game", the frame in which
            it happens, or "black", see `DeathScreen`.
        backend: "batched", N emulators in one env, on threads (fast; has `screens()` and a
            resumable state); "transformed", one env of TorchRL transforms per world, in turn;
            "parallel", the same, one process per world.
        threads: of the batched backend; None: one per world, at most one per CPU.
        stage, action_set, image_size, action_repeat, max_pool, crop_top, reward, max_steps,
            stall_limit, random_noops, sticky: see `BatchedMario`.

    Returns:
        An env of batch size [N] with `pixels` uint8 [N, 3, S, S], the facts `x_pos`, `x_max`,
        `flag`, `time`, `score`, `coins`, `life`, `world`, `stage` [N, 1], and the bookkeeping.

    Raises:
        ValueError: an option out of its range. ImportError: no emulator.
    """
    if backend not in BACKENDS:
        raise ValueError(
            f"env.backend: got {backend!r}, expected one of {list(BACKENDS)}. "
            "Set env.backend=batched."
        )
    if death_screen not in ("game", "black"):
        raise ValueError(f"env.death_screen: got {death_screen!r}, expected 'game' or 'black'.")
    check_at_least_one(num_envs=num_envs)
    picture = {"image_size": image_size, "max_pool": max_pool, "crop_top": crop_top}
    ends = {"max_steps": max_steps, "stall_limit": stall_limit}
    chance = {"random_noops": random_noops, "sticky": sticky}
    game = {"stage": stage, "action_set": actions_of(action_set), "action_repeat": action_repeat}
    options = {**game, **picture, **ends, **chance, "reward": reward}
    if backend == "batched":
        options |= {"stage_order": stage_order, "sticky_unit": sticky_unit}
        env = with_bookkeeping(BatchedMario(num_envs, seed=seed, threads=threads, **options))
    else:
        parse_stage(stage), import_emulator()  # one clear error here, not one per worker
        make = partial(make_single_mario, **options)
        several = SerialEnv if backend == "transformed" else ParallelEnv
        env = several(num_envs, [partial(make, seed=seed + world) for world in range(num_envs)])
        env = with_bookkeeping(env)
    return env.append_transform(DeathScreen()) if death_screen == "black" else env
