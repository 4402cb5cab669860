"""Map of a level, stitched from the emulator's screens of an episode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from mario_dreamer.envs.mario.recordings import play_buttons

SCORE_BAR = 32  # rows of the screen that do not move with the level
_SAMPLES = 9  # screens looked at per column; their median knows no passing enemy


def level_map(frames: Sequence[np.ndarray], screen_lefts: Sequence[int]) -> np.ndarray:
    """Stitch screens into one long picture; a column shows the median of what was seen there.

    Args:
        frames: T >= 1 pictures uint8 [H, W, 3], all of the same size.
        screen_lefts: where the left edge of each lies in the level, in pixels, [T].

    Returns:
        the map to the end of the last screen, uint8 [H, width, 4] with alpha: transparent black
        where nothing was seen.
    """
    height, span = frames[0].shape[:2]
    lefts = np.asarray(screen_lefts)
    picture = np.zeros((height, int(lefts.max()) + span, 4), np.uint8)
    for column in range(picture.shape[1]):
        there = np.flatnonzero((lefts <= column) & (column < lefts + span))
        if not len(there):
            continue
        # Evenly spread over the time in which the column was on screen; an odd number, so that
        # the median is a colour that was really there.
        count = min(_SAMPLES, len(there) - (len(there) + 1) % 2)
        chosen = there[np.linspace(0, len(there) - 1, max(1, count)).round().astype(int)]
        stack = np.stack([frames[t][:, column - lefts[t]] for t in chosen])  # [n, H, 3]
        picture[:, column, :3] = np.median(stack, axis=0)
        picture[:, column, 3] = 255
    return picture


def map_of_buttons(stage: str, buttons: Sequence[int], every: int = 4) -> np.ndarray:
    """Play recorded buttons in the raw emulator and stitch its screens, without the score bar.

    Args:
        stage: "w-s".
        every: take each so many-th screen, the last one among them.

    Returns:
        as `level_map`. Rooms of another kind (a bonus room below ground) are left out: their
        places overlap those of the level.

    Raises:
        ValueError: no such stage, or no buttons. ImportError: no emulator.
    """
    played = play_buttons(stage, buttons, 1, film=True)
    longest = Counter(played.areas).most_common(1)  # the kind of area on screen for longest
    there = [i for i, area in enumerate(played.areas) if area == longest[0][0]]
    chosen = there[::-every][::-1]  # counted from the end: the furthest screen is among them
    screens = [played.screens[i][SCORE_BAR:] for i in chosen]
    return level_map(screens, [played.lefts[i] for i in chosen])
