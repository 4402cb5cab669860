"""BatchedMario: N emulators in one TorchRL environment, on a pool of threads."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mario_dreamer.envs.base import BatchedEnv, check_at_least_one, pixel_spec
from mario_dreamer.envs.mario.emulator import (
    INFO,
    SCREEN,
    actions_of,
    button_byte,
    copy_screen,
    info_specs,
    read_info,
    stages_of,
)
from mario_dreamer.envs.mario.game import Game
from mario_dreamer.envs.mario.randomness import Chance
from mario_dreamer.envs.mario.rewards import MarioReward
from mario_dreamer.envs.screens import check_picture, shrink
from mario_dreamer.keys import PIXELS

log = logging.getLogger(__name__)

MOST_FAILURES = 10  # of emulators in one run; one in a while is bad luck
X_MAX = list(INFO).index("x_max")


class BatchedMario(BatchedEnv):
    """Play N games of Super Mario Bros at once, each on its own emulator.

    The emulator lets go of Python's lock, so threads really run side by side; each thread also
    shrinks its own picture. An episode is `terminated` by death, by the clock at 0 or by the
    flag, and `truncated` by `max_steps` or `stall_limit`; world i draws from seed + i.

    Args:
        num_envs: N.
        stage: "w-s", world 1 to 8, stage 1 to 4; or a list of those, or "all".
        stage_order: which stage the next episode plays, see `Game`; world i begins with stage i.
        action_set: "simple" (7), "right_only" (5), "complex" (12), or a list of names.
        image_size: side of the square picture.
        action_repeat: raw frames per agent step.
        max_pool: take the brighter of the last two raw frames of each step.
        crop_top: rows cut off the raw screen first; 32 are the score bar.
        reward: the rules; None: `MarioReward()`.
        max_steps: agent steps until truncation; None: never.
        stall_limit: agent steps without a new furthest x until truncation; None: never.
        random_noops: opening frames without a button, 0 to this many.
        sticky, sticky_unit: probability that the previous buttons are held, see `Chance`.
        threads: None: one per world, at most one per CPU.
        seed: of the no-ops and the sticky actions; the game itself has no chance in it.

    Raises:
        ValueError: an option out of its range. ImportError: no emulator.
    """

    STATE = ("pixels", "facts", "stalled")

    def __init__(
        self,
        num_envs: int = 1,
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
        threads: int | None = None,
        seed: int = 0,
    ) -> None:
        check_at_least_one(action_repeat=action_repeat, stall_limit=stall_limit, threads=threads)
        check_picture(image_size, crop_top, SCREEN[0])
        names, stages = actions_of(action_set), stages_of(stage)
        observations = {PIXELS: pixel_spec(3, image_size, image_size), **info_specs()}
        super().__init__(num_envs, len(names), observations, max_steps, seed)
        self.action_names, self.image_size, self.crop_top = names, image_size, crop_top
        self.bytes = [button_byte(name) for name in names]
        self.stall_limit = stall_limit
        self._threads = min(num_envs, threads or count_cpus())
        # This thread plays as well, so the pool has one less.
        helpers = self._threads - 1
        self._pool = ThreadPoolExecutor(helpers, "mario") if helpers else None
        rules = MarioReward() if reward is None else reward

        def _start(world: int, chance: Chance | None = None) -> Game:
            chance = chance or Chance(seed + world, random_noops, sticky, sticky_unit)
            return Game(stages, rules, action_repeat, max_pool, chance, stage_order, world)

        self._start, self.failures = _start, 0
        self.games: list[Game] = self._each(_start, range(num_envs))
        self.pixels = torch.zeros(num_envs, 3, image_size, image_size, dtype=torch.uint8)
        self.facts = torch.zeros(num_envs, len(INFO), dtype=torch.int64)  # as in INFO
        self.stalled = torch.zeros(num_envs, dtype=torch.int64)  # steps since the last best x

    def _set_seed(self, seed: int | None) -> None:
        super()._set_seed(seed)
        if seed is not None:
            for world, game in enumerate(getattr(self, "games", ())):
                game.chance.seed(seed + world)

    def _each(self, task: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        """The task for each row of arguments, results in order; a thread that is free takes the next.

        One hop to each thread per step instead of one per world.
        """
        rows = list(zip(*arguments, strict=True))
        results: list[Any] = [None] * len(rows)
        taken = itertools.count()  # its `next` is one step that no other thread can come between

        def _work() -> None:
            while (row := next(taken)) < len(rows):
                results[row] = task(*rows[row])

        helpers = min(self._threads, len(rows)) - 1
        others = [] if self._pool is None else [self._pool.submit(_work) for _ in range(helpers)]
        try:
            _work()
        finally:
            wait(others)
        for other in others:
            other.result()
        return results

    def _see(self, world: int, screen: np.ndarray) -> list[int]:
        image = torch.from_numpy(screen)
        self.pixels[world] = shrink(image, self.image_size, self.image_size, self.crop_top)
        return read_info(self.games[world].info)

    def _begin(self, mask: Tensor) -> None:
        def _open(world: int) -> list[int]:
            try:
                return self._see(world, self.games[world].begin())
            except Exception as error:  # once more, with a new emulator; then it is hopeless
                self._revive(world, error)
                return self._see(world, self.games[world].begin())

        worlds = mask.nonzero().flatten()
        facts = self._each(_open, worlds.tolist())
        if facts:
            self.facts[worlds] = torch.tensor(facts)
        self.stalled.masked_fill_(mask, 0)

    def _revive(self, world: int, error: Exception) -> None:
        """Start a new emulator in place of one that failed; its episode is cut, not ended.

        Raises:
            RuntimeError: it has failed ten times; something else is wrong.
        """
        self.failures += 1
        told = f"world {world}: its emulator failed ({type(error).__name__}: {error})"
        if self.failures > MOST_FAILURES:
            raise RuntimeError(
                f"{told}, the {self.failures}th failure of a world in this run. Check the "
                "installation of nes-py and the machine's memory."
            ) from error
        log.warning("%s; the episode is cut and a new emulator started", told)
        old = self.games[world]
        with contextlib.suppress(Exception):
            old.close()
        self.games[world] = self._start(world, old.chance)

    def _advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def _play(world: int, index: int) -> tuple[float, list[int]]:
            try:
                screen, reward = self.games[world].play(self.bytes[index])
                return reward, self._see(world, screen)
            except Exception as error:
                self._revive(world, error)
                broken[world] = True
                return 0.0, self.facts[world].tolist()

        broken = torch.zeros(self.num_envs, dtype=torch.bool)
        best = self.facts[:, X_MAX]
        rewards, facts = zip(*self._each(_play, range(self.num_envs), action.tolist()), strict=True)
        self.facts = torch.tensor(facts)
        self.stalled = torch.where(self.facts[:, X_MAX] > best, 0, self.stalled + 1)
        terminated = torch.tensor([game.over for game in self.games]) & ~broken
        truncated = broken.clone()
        if self.stall_limit is not None:
            truncated |= self.stalled >= self.stall_limit
        return torch.tensor(rewards), terminated, truncated

    def _observe(self) -> dict[str, Tensor]:
        facts = self.facts.unsqueeze(-1).unbind(1)  # one [N, 1] per fact
        named = zip(INFO.items(), facts, strict=True)
        seen = {key: fact.to(dtype, copy=True) for (key, (_, dtype)), fact in named}
        return {PIXELS: self.pixels.clone(), **seen}

    def screens(self) -> Tensor:
        """Return the raw screens of this moment for videos, uint8 [N, 240, 256, 3]."""
        raw = np.empty((self.num_envs, *SCREEN), np.uint8)
        for game, out in zip(self.games, raw, strict=True):
            copy_screen(game.emulator, out)
        return torch.from_numpy(raw)

    def state_dict(self, *_: object, **__: object) -> dict[str, Any]:
        """Return all that a bit-equal resume needs, as tensors and numbers.

        The games are saved as the buttons pressed since their resets, because the emulator's
        snapshots cannot be written to a file; loading replays them, at most 8 s per world.
        """
        return {
            "tapes": [torch.tensor(list(game.tape), dtype=torch.uint8) for game in self.games],
            "held": [game.held for game in self.games],
            "stages": [game.stage for game in self.games],
            "played": [list(game.played) for game in self.games],
            "chance": torch.stack([game.chance.state() for game in self.games]),
            **super().state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any], *_: object, **__: object) -> None:
        """Continue from what `state_dict` returned; `current()` then shows the same moment.

        Raises:
            ValueError: the state was saved with another number of worlds.
        """
        tapes = [tape.numpy().tobytes() for tape in state_dict["tapes"]]
        if len(tapes) != self.num_envs:
            raise ValueError(
                f"BatchedMario.load_state_dict: the state holds {len(tapes)} worlds, this env has "
                f"{self.num_envs}. Set env num_envs={len(tapes)} or start without the state."
            )
        super().load_state_dict(state_dict)
        stages = state_dict.get("stages", [0] * len(tapes))
        played = state_dict.get("played", [[]] * len(tapes))
        self._each(Game.replay, self.games, tapes, state_dict["held"], stages, played)
        for game, state in zip(self.games, state_dict["chance"], strict=True):
            game.chance.load(state)

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Stop the threads and free the emulators."""
        if not self.is_closed:
            if self._pool is not None:
                self._pool.shutdown()
            for game in self.games:
                game.close()
        super().close(raise_if_closed=raise_if_closed)


def count_cpus() -> int:
    """Count the CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
