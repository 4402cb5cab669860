"""Recordings of buttons, and how they are played again in the raw emulator without the agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from mario_dreamer.envs.mario.emulator import INFO, read_info
from mario_dreamer.envs.mario.game import Game

AREA_TYPE = 0x074E  # in the console's memory: 0 water, 1 ground, 2 underground, 3 castle


@dataclass
class Playback:
    """What recorded buttons led to.

    Args:
        stats: of the last frame, see `emulator.INFO`; and `frames`, `done`.
        screens: uint8 [240, 256, 3] after each step; empty unless filmed.
        lefts: where the screen's left edge lay in the stage then, in pixels.
        areas: the kind of area that was on screen then; a bonus room is another one.
    """

    stats: dict[str, int]
    screens: list[np.ndarray] = field(default_factory=list)
    lefts: list[int] = field(default_factory=list)
    areas: list[int] = field(default_factory=list)


def pack_buttons(buttons: Iterable[int]) -> list[list[int]]:
    """Write a button log as runs: [byte, number of raw frames].

    >>> pack_buttons(b"\\x80\\x80\\x81")
    [[128, 2], [129, 1]]
    """
    return [[int(byte), len(list(run))] for byte, run in groupby(buttons)]


def unpack_buttons(runs: Sequence[Sequence[int]]) -> list[int]:
    """Read what `pack_buttons` wrote: one byte per raw frame.

    Raises:
        ValueError: when it is something else.
    """
    right = isinstance(runs, list) and all(
        isinstance(run, list) and len(run) == 2 and all(type(part) is int for part in run)
        and 0 <= run[0] <= 255 and 0 < run[1] < 10**6
        for run in runs
    )  # fmt: skip
    if not right:
        raise ValueError("a button log must be a list of [byte 0..255, number of frames].")
    if sum(count for _, count in runs) > 10**7:
        raise ValueError("a button log may hold at most 10,000,000 frames, two days of play.")
    return [byte for byte, count in runs for _ in range(count)]


def played_stage(stage: str | Sequence[str], stats: Mapping[str, float]) -> str:
    """Return the stage, "w-s", that an episode was played on.

    Args:
        stage: the env's option; with several, the last frame's `world` and `stage` decide.
    """
    several = stage == "all" or not isinstance(stage, str)
    return f"{int(stats['world'])}-{int(stats['stage'])}" if several else stage


def play_buttons(
    stage: str, buttons: Sequence[int], action_repeat: int, film: bool = False
) -> Playback:
    """Press buttons in a fresh emulator until they run out or the episode ends.

    Args:
        stage: "w-s".
        action_repeat: raw frames each is held; 1 for a button log.
        film: keep the screen after each step, and where it lay in the stage.

    Raises:
        ValueError: no such stage. ImportError: no emulator.
    """
    game, played = Game([stage]), Playback({})
    game.begin()
    for byte in buttons:
        for _ in range(action_repeat):
            if not game.over:
                game.press(byte)
        if film:
            played.screens.append(game.screen())
            played.lefts.append(int(game.info["x_pos"]) - int(game.info["left_x_pos"]))
            played.areas.append(int(game.emulator.ram[AREA_TYPE]))
        if game.over:
            break
    if game.pressed:
        played.stats = dict(zip(INFO, read_info(game.info), strict=True))
    played.stats |= {"frames": len(game.pressed), "done": int(game.over)}
    game.close()
    return played
