"""BatchedMario: raw frames of N emulators in one TorchRL environment, on a pool of threads."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchrl.data import Bounded, Unbounded

from mario_dreamer.envs.base import BatchedEnv, check_at_least_one, count_cpus, pixel_spec
from mario_dreamer.envs.mario.emulator import SCREEN, copy_screen
from mario_dreamer.envs.mario.game import NUMBERS, TRACK, Game, number_specs
from mario_dreamer.keys import PIXELS

log = logging.getLogger(__name__)

MOST_FAILURES = 10  # of emulators in one run; one in a while is bad luck


class BatchedMario(BatchedEnv):
    """Play K raw frames per step of N games at once, each on its own emulator.

    The action is int16 [N, K]: a controller byte for each raw frame; -1 plays no frame. The
    observation is `pixels`, the `NUMBERS` and the `TRACK`; the reward is the package's own. A game
    that is over stands still. Everything else is a stack of transforms, see `MarioOptions`.

    The emulator releases Python's lock, so threads run in parallel. Two transforms of the stack are
    folded into them: `ActionRepeat`, which outside costs 24 % of the speed with one env and 10 %
    with 8 on two cores, and the resize, 0.028 ms per env, one after the other outside: nothing on
    two cores, by calculation 10 % of a step of 16 envs on 16 threads.

    Args:
        num_envs: N; env i has the seed `seed + i` and begins with stage i.
        stages, stage_order, seed: as of `Game`.
        frames: K, raw frames per step.
        max_pool: take the brighter of the last two raw frames of a step.
        picture: makes `pixels` of a raw screen, uint8 [240, 256, 3]; None: the screen itself.
        threads: None: one per env, at most one per CPU.

    Raises:
        ValueError: a count below 1. ImportError: no emulator.
    """

    STATE = ("pixels", "numbers", "track")

    def __init__(
        self,
        num_envs: int = 1,
        stages: Sequence[str] = ("1-1",),
        stage_order: str = "balanced",
        frames: int = 1,
        max_pool: bool = False,
        picture: Callable[[Tensor], Tensor] | None = None,
        threads: int | None = None,
        seed: int = 0,
    ) -> None:
        check_at_least_one(threads=threads)
        self.picture = picture or (lambda screen: screen)
        shape = self.picture(torch.zeros(SCREEN, dtype=torch.uint8)).shape
        track = Unbounded([frames + 1, 2], dtype=torch.int64)
        observations = {PIXELS: pixel_spec(*shape), **number_specs(), TRACK: track}
        super().__init__(num_envs, Bounded(-1, 255, [frames], dtype=torch.int16), observations)
        self.max_pool = max_pool
        self._threads = min(num_envs, threads or count_cpus())
        # One less, because this thread plays as well; the first task starts them.
        self._pool = ThreadPoolExecutor(max(1, self._threads - 1), "mario")
        self.failures = 0
        games = self._each(lambda i: Game(stages, stage_order, seed + i, i), range(num_envs))
        self.games: list[Game] = games
        self._screens = np.empty((num_envs, 2, *SCREEN), np.uint8)
        self.pixels = torch.zeros(num_envs, *shape, dtype=torch.uint8)
        self.numbers = torch.zeros(num_envs, len(NUMBERS), dtype=torch.int64)
        self.track = torch.zeros(num_envs, frames + 1, 2, dtype=torch.int64)

    def _set_seed(self, seed: int | None) -> None:
        super()._set_seed(seed)
        if seed is not None:
            for env, game in enumerate(getattr(self, "games", ())):
                game.set_seed(seed + env)

    def _each(self, task: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        """Run the task on each row of arguments; results in order. A free thread takes the next.

        One hop to each thread per step instead of one per env.
        """
        rows = list(zip(*arguments, strict=True))
        results: list[Any] = [None] * len(rows)
        taken = itertools.count()  # `next` is atomic

        def _work() -> None:
            while (row := next(taken)) < len(rows):
                results[row] = task(*rows[row])

        helpers = min(self._threads, len(rows)) - 1
        others = [self._pool.submit(_work) for _ in range(helpers)]
        try:
            _work()
        finally:
            wait(others)
        for other in others:
            other.result()
        return results

    def _open(self, env: int) -> None:
        try:
            self.games[env].begin()
        except Exception as error:  # once more, with a new emulator; a second failure is final
            self._replace(env, error)
            self.games[env].begin()
        self.track[env] = torch.tensor(self.games[env].place)
        self._see(env, pooled=False)

    def _see(self, env: int, pooled: bool) -> None:
        older, newer = self._screens[env]
        self.numbers.numpy()[env] = self.games[env].numbers
        copy_screen(self.games[env].emulator, newer)
        if pooled:
            np.maximum(older, newer, out=newer)
        self.pixels[env] = self.picture(torch.from_numpy(newer))

    def _begin(self, mask: Tensor) -> None:
        self._each(self._open, mask.nonzero().flatten().tolist())

    def _replace(self, env: int, error: Exception) -> None:
        """Give up an emulator that failed; its episode is truncated.

        Raises:
            RuntimeError: more than ten failures in this run.
        """
        self.failures += 1
        failed = f"env {env}: its emulator failed ({type(error).__name__}: {error})"
        if self.failures > MOST_FAILURES:
            raise RuntimeError(
                f"{failed}, failure {self.failures} of an emulator in this run. Check the "
                "installation of nes-py and the machine's memory."
            ) from error
        log.warning("%s; the episode is truncated and a new emulator starts", failed)
        with contextlib.suppress(Exception):
            self.games[env].close()  # the next reset starts a new one

    def _play(self, env: int, row: list[int]) -> tuple[float, bool]:
        """Play one row of frames; return the package's reward, and whether the emulator failed."""
        game, track = self.games[env], self.track[env].numpy()
        track[:] = track[-1]
        reward, played, pooled = 0.0, False, False
        try:
            for frame, byte in enumerate(row):
                if byte >= 0 and not game.over:
                    # A step that opens with pauses or is cut short by the end is not pooled.
                    pooled = self.max_pool and 0 < frame == len(row) - 1 and row[frame - 1] >= 0
                    if pooled:
                        copy_screen(game.emulator, self._screens[env, 0])
                    reward, played = reward + game.press(byte), True
                    track[frame + 1 :] = game.place
            if played:
                self._see(env, pooled)
        except Exception as error:
            track[:] = track[0]
            self._replace(env, error)
            return 0.0, True
        return reward, False

    def _advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        played = self._each(self._play, range(self.num_envs), action.tolist())
        rewards, failed = (torch.tensor(column) for column in zip(*played, strict=True))
        return rewards, torch.tensor([game.over for game in self.games]) & ~failed, failed

    def _observe(self) -> dict[str, Tensor]:
        columns = self.numbers.clone().unsqueeze(-1).unbind(1)  # [N, 1] each
        numbers = zip(NUMBERS.items(), columns, strict=True)
        named = {key: number.to(dtype) for (key, dtype), number in numbers}
        return {PIXELS: self.pixels.clone(), **named, TRACK: self.track.clone()}

    def screens(self) -> Tensor:
        """Return the raw screens of this moment for videos, uint8 [N, 240, 256, 3]."""
        return torch.from_numpy(np.stack([game.screen() for game in self.games]))

    def state_dict(self, *_: object, **__: object) -> dict[str, Any]:
        """Return what a bit-equal resume needs, as tensors and numbers; see `Game.state_dict`."""
        return {"games": [game.state_dict() for game in self.games], **super().state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any], *_: object, **__: object) -> None:
        """Continue from what `state_dict` returned, see `BatchedEnv.load_state_dict`."""
        super().load_state_dict(state_dict)
        self._each(Game.load_state_dict, self.games, state_dict["games"])

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Stop the threads and free the emulators."""
        if not self.is_closed:
            self._pool.shutdown()
            for game in self.games:
                game.close()
        super().close(raise_if_closed=raise_if_closed)
