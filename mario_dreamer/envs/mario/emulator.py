"""The emulator: one Super Mario Bros stage, its buttons, and the numbers we read from it.

The package gym-super-mario-bros is imported on first use, so that everything else works
without it (it publishes no wheel for Python below 3.13).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

SCREEN = (240, 256, 3)  # height, width, RGB of the raw screen

# One bit per button of the controller.
BUTTONS = {"right": 128, "left": 64, "down": 32, "up": 16, "start": 8, "select": 4, "B": 2, "A": 1}

_RIGHT = ("noop", "right", "right+A", "right+B", "right+A+B")
ACTION_SETS: dict[str, tuple[str, ...]] = {
    "right_only": _RIGHT,
    "simple": (*_RIGHT, "A", "left"),
    "complex": (*_RIGHT, "A", "left", "left+A", "left+B", "left+A+B", "down", "up"),
}

# What the TensorDict carries next to the picture: our key -> the emulator's key, dtype.
INFO = {
    "x_pos": ("x_pos", torch.int64),  # position in the stage, pixels; the flag of 1-1 is at 3161
    "x_max": ("x_pos_max", torch.int64),  # the furthest of this episode
    "flag": ("flag_get", torch.bool),  # the stage is won
    "time": ("time", torch.int64),  # the game clock, 400 down to 0
    "score": ("score", torch.int64),
    "coins": ("coins", torch.int64),
    "life": ("life", torch.int64),
    "world": ("world", torch.int64),
    "stage": ("stage", torch.int64),
}


def actions_of(action_set: str | Sequence[str]) -> tuple[str, ...]:
    """Name the agent's actions, [A], in the order of the one-hot vector.

    Args:
        action_set: "simple", "right_only", "complex", or own names such as ["noop", "right+A"].

    Raises:
        ValueError: unknown set or unknown button.
    """
    if isinstance(action_set, str):
        if action_set not in ACTION_SETS:
            raise ValueError(
                f"env.action_set: got {action_set!r}, expected one of {sorted(ACTION_SETS)} "
                "or a list of button names such as [noop, right, right+A]."
            )
        return ACTION_SETS[action_set]
    names = tuple(action_set)
    if not names:
        raise ValueError("env.action_set: got an empty list. Name at least one action.")
    for name in names:
        button_byte(name)
    return names


def button_byte(action: str) -> int:
    """Turn an action's name, "right+A" or "noop", into the controller's byte, 0 to 255.

    Raises:
        ValueError: unknown button.
    """
    buttons = [] if action == "noop" else action.split("+")
    unknown = [button for button in buttons if button not in BUTTONS]
    if unknown:
        raise ValueError(
            f"env.action_set: action {action!r} has unknown buttons {unknown}. "
            f"Join any of {list(BUTTONS)} with '+', or write 'noop'."
        )
    return sum(BUTTONS[button] for button in set(buttons))


def parse_stage(stage: str) -> tuple[int, int]:
    """Read "w-s" as (world 1 to 8, stage 1 to 4).

    Raises:
        ValueError: anything else.
    """
    if found := re.fullmatch("0*([1-8])-0*([1-4])", str(stage)):
        return int(found[1]), int(found[2])
    raise ValueError(
        f'env.stage: got {stage!r}, expected "w-s" with world w 1 to 8 and stage s 1 to 4. '
        'Set env.stage="1-1".'
    )


def stages_of(stage: str | Sequence[str]) -> tuple[str, ...]:
    """Name the stages that `env.stage` asks for: one, a list, or "all" 32.

    Raises:
        ValueError: a name that is no stage, or none at all.
    """
    if stage == "all":
        return tuple(f"{world}-{number}" for world in range(1, 9) for number in range(1, 5))
    names = (stage,) if isinstance(stage, str) else tuple(stage)
    if not names:
        raise ValueError("env.stage: got an empty list. Name at least one stage.")
    return tuple("{}-{}".format(*parse_stage(name)) for name in names)


def import_emulator() -> Any:
    """Import the emulator's class.

    Raises:
        ImportError: the package is missing, or Python is too old for it.
    """
    try:
        from gym_super_mario_bros import SuperMarioBrosEnv
    except ImportError as error:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ImportError(
            "Mario needs the emulator gym-super-mario-bros>=9.1 with nes-py>=9.0 (Python 3.13+); "
            f"got Python {python} and: {error}. Use Python 3.13 and run "
            "'pip install \"gym-super-mario-bros>=9.1,<10\"', or choose another env, e.g. env=toy."
        ) from error
    return SuperMarioBrosEnv


def make_emulator(stage: str) -> Any:
    """Start one emulator at the beginning of a stage, without any Gymnasium wrapper.

    Args:
        stage: "w-s".

    Raises:
        ValueError: no such stage, or the emulator starts another one. ImportError: no emulator.
    """
    target = parse_stage(stage)
    emulator = import_emulator()(target=target)
    _, info = emulator.reset()
    loaded = info["world"], info["stage"]
    if loaded != target:
        emulator.close()
        raise ValueError(
            f"env.stage={stage}: the emulator started stage {loaded[0]}-{loaded[1]} instead. "
            "Choose another stage, or install another version of gym-super-mario-bros."
        )
    return emulator


def copy_screen(emulator: Any, out: np.ndarray) -> None:
    """Copy the raw screen into `out`, uint8 [240, 256, 3]; 30 us, ten times faster than slicing."""
    emulator.observation("rgb_array_contiguous", out)


def read_info(info: Mapping[str, Any]) -> list[int]:
    """Pick the numbers of `INFO`, in its order, from the emulator's info."""
    return [int(info[source]) for source, _ in INFO.values()]
