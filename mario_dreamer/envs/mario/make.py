"""make_mario_env: Super Mario Bros as a TorchRL environment, ready for a run."""

from __future__ import annotations

from functools import partial
from typing import Any

from torchrl.envs import ParallelEnv, SerialEnv, TransformedEnv, UnaryTransform

from mario_dreamer.envs.base import check_at_least_one, check_choice, with_bookkeeping
from mario_dreamer.envs.mario.batched import BatchedMario
from mario_dreamer.envs.mario.emulator import import_emulator
from mario_dreamer.envs.mario.options import MarioOptions
from mario_dreamer.envs.mario.single import make_single_mario
from mario_dreamer.envs.mario.transforms import ActionRepeat
from mario_dreamer.keys import PIXELS

BACKENDS = ("batched", "serial", "parallel", "transformed")  # the last is the old name of serial


def make_mario_env(
    num_envs: int = 1,
    seed: int = 0,
    backend: str = "batched",
    threads: int | None = None,
    **options: Any,
) -> TransformedEnv:
    """Make N games of Mario with the bookkeeping of a run; all backends play the same game.

    Args:
        num_envs: N.
        seed: env i draws from seed + i.
        backend: what plays the raw frames: "batched", N emulators in one env, on threads (fast;
            has `screens()` and a resumable state); "serial", one Gymnasium env each, in turn;
            "parallel", the same, one process each.
        threads: of the batched backend; None: one per env, at most one per CPU.
        options: see `MarioOptions`.

    Returns:
        An env of batch size [N] with `pixels` uint8 [N, C, S, S]; `x_pos`, `x_max`, `flag`,
        `time`, `score`, `coins`, `life`, `world`, `stage`, `stage_index`, `episode_seed` [N, 1];
        and the bookkeeping.

    Raises:
        ValueError: an option out of its range. ImportError: no emulator.
    """
    check_choice("backend", backend, BACKENDS)
    check_at_least_one(num_envs=num_envs)
    mario = MarioOptions(**options)
    stages, frames = (mario.stages, mario.stage_order), mario.action_repeat
    if backend == "batched":
        base = BatchedMario(
            num_envs, *stages, frames, mario.max_pool, mario.picture, threads, seed
        )
        return with_bookkeeping(base, *mario.transforms())
    import_emulator()  # one clear error here, not one per worker
    several = ParallelEnv if backend == "parallel" else SerialEnv
    makers = [partial(make_single_mario, *stages, seed + env, env) for env in range(num_envs)]
    repeat = ActionRepeat(frames, mario.max_pool)
    resize = UnaryTransform([PIXELS], [PIXELS], fn=mario.picture)
    return with_bookkeeping(several(num_envs, makers), repeat, resize, *mario.transforms())
