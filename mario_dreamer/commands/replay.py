"""mario-dreamer replay FILE: play a saved action list in the raw emulator and verify it.

    mario-dreamer replay evaluation/sampled-flag-0.json
    mario-dreamer replay FILE --video flag.mp4

The NES is deterministic: the same buttons give the same episode, on any machine. This command
uses the emulator alone, none of the agent: it presses the buttons of the list and says where
Mario got and whether that is what the file claims. Exit code 0 when it is, 1 when not. Episodes
with random no-ops or sticky actions carry the log of the buttons really pressed; they are checked
too.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mario_dreamer.envs.mario.emulator import actions_of, button_byte, parse_stage
from mario_dreamer.envs.mario.recordings import play_buttons, played_stage, unpack_buttons
from mario_dreamer.tracking.video import encode_mp4
from mario_dreamer.training.checkpoint_files import read_small_text

LARGEST = 2**24  # bytes of an action list
RENAMED = {"facts": "stats", "tape": "buttons"}  # as files written before 2026-11-27 name them


def read_actions(path: Path) -> dict[str, Any]:
    """Read an action list as `mario-dreamer evaluate` writes it.

    Args:
        path: a JSON file with `env`, `actions` and `stats`; with `buttons` where chance decided
            what was pressed.

    Raises:
        ValueError: when it is not such a file.
    """
    try:
        found = json.loads(read_small_text(path, LARGEST))
        saved = {RENAMED.get(name, name): value for name, value in found.items()}
        if "stage" not in saved["env"]:
            raise ValueError("it is of an env without stages; the emulator plays Mario alone")
        buttons = len(actions_of(saved["env"]["action_set"]))
        if not all(isinstance(a, int) and 0 <= a < buttons for a in saved["actions"]):
            raise ValueError(f"its actions are not indices into a set of {buttons}")
        repeat, stats = saved["env"]["action_repeat"], saved["stats"]
        parse_stage(played_stage(saved["env"]["stage"], stats))
        if isinstance(repeat, bool) or not isinstance(repeat, int) or not 1 <= repeat <= 1000:
            raise ValueError(f"action_repeat is {repeat!r}, not a whole number from 1 to 1000")
        for name in ("x_max", *(claim for claim in ("flag", "time") if claim in stats)):
            if not isinstance(stats[name], int | float) or not math.isfinite(stats[name]):
                raise ValueError(f"stats.{name} is {stats[name]!r}, not a number")
        if not saved.get("buttons", saved["actions"]):
            raise ValueError("it holds no actions")
        unpack_buttons(saved.get("buttons", []))
    except FileNotFoundError:
        raise ValueError(f"there is no file {str(path)!r}.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is not an action list ({type(error).__name__}: {error}). "
            "Expected a file written by mario-dreamer evaluate."
        ) from error
    return saved


def buttons_of(saved: dict[str, Any]) -> tuple[list[int], int]:
    """Return the controller bytes to press, and how many raw frames each is held."""
    if "buttons" in saved:
        return unpack_buttons(saved["buttons"]), 1
    names = actions_of(saved["env"]["action_set"])
    return [button_byte(names[a]) for a in saved["actions"]], saved["env"]["action_repeat"]


def main() -> None:
    """Run the command; see the top of this file."""
    parser = argparse.ArgumentParser(prog="mario-dreamer replay", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--video", type=Path, help="also write a film, .mp4")
    arguments = parser.parse_args()
    if arguments.video is not None and arguments.video.suffix != ".mp4":
        parser.error(f"--video {arguments.video}: the film is a file ending in .mp4")
    try:
        saved = read_actions(arguments.file)
        env, claimed = saved["env"], saved["stats"]
        buttons, held = buttons_of(saved)
        stage = played_stage(env["stage"], claimed)
        played = play_buttons(stage, buttons, held, arguments.video is not None)
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    found = played.stats
    if arguments.video is not None:
        screens = played.screens[:: env["action_repeat"] // held]
        frames = torch.from_numpy(np.stack(screens)).permute(0, 3, 1, 2)
        encode_mp4(frames, arguments.video, 60 / env["action_repeat"], 2)
    claims = {name: int(claimed[name]) for name in ("x_max", "flag", "time") if name in claimed}
    differs = {name: (value, found[name]) for name, value in claims.items() if found[name] != value}
    print(f"stage {stage}: {len(saved['actions'])} actions, {found['frames']} frames, {found}")
    if differs:
        print(f"NOT VERIFIED: claimed and found differ: {differs}", file=sys.stderr)
        sys.exit(1)
    print(f"VERIFIED: {claims}")
