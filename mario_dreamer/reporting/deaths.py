"""Where episodes end, drawn over the map of the level."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from mario_dreamer.reporting.level_map import png_url
from mario_dreamer.reporting.plot import label, ticks

__all__ = ["OUTCOMES", "death_chart", "outcome"]

OUTCOMES = {"flag": 2, "died": 3, "time ran out": 4, "stopped": 1}  # -> colour
_BAR, _ROOM = 40, 150  # width of a histogram's bar and height above the map, in level pixels
_BLANK = 208  # height where there is no map


def outcome(facts: dict[str, float]) -> str:
    """Say how an episode ended: flag, died, time ran out, or stopped (no progress, too long).

    Args:
        facts: of `training.evaluation.Episode`.
    """
    if facts.get("flag"):
        return "flag"
    if not facts.get("terminated", 1.0):
        return "stopped"
    return "time ran out" if facts.get("time", 1.0) <= 0 else "died"


def _bars(xs: Sequence[float], base: float) -> list[str]:
    """Histogram of places, standing on `base`, in pixels of the level."""
    counts: dict[int, int] = {}
    for x in xs:
        counts[int(x // _BAR)] = counts.get(int(x // _BAR), 0) + 1
    most = max(counts.values(), default=1)
    out = []
    for place, count in sorted(counts.items()):
        height = (_ROOM - 60) * count / most
        out.append(
            f'<rect class="s0" stroke-width="0" x="{place * _BAR + 2}" y="{base - height:.0f}" '
            f'width="{_BAR - 4}" height="{height:.0f}"><title>x {place * _BAR} to '
            f"{(place + 1) * _BAR}: {count}</title></rect>"
        )
    return out


def _mark(facts: dict[str, float], top: float, height: float) -> str:
    """One cross (a ring for the flag) where Mario was when it ended."""
    x, y = facts["x_pos"], top + min(height - 8, max(8.0, 255 - 32 - facts.get("y_pos", 79) + 8))
    how = outcome(facts)
    shape = "M-7-7L7 7M-7 7L7-7" if how != "flag" else "M-8 0a8 8 0 1 0 16 0a8 8 0 1 0-16 0"
    told = escape(f"{how} at x {facts['x_pos']:.0f}, best x {facts['x_max']:.0f}")
    return (
        f'<g transform="translate({x:.0f} {y:.0f})"><title>{told}</title>'
        f'<path d="{shape}" stroke="#fff" stroke-width="8" fill="none" opacity="0.75"/>'
        f'<path class="s{OUTCOMES[how]}" style="fill: none" stroke-width="4" d="{shape}"/></g>'
    )


def death_chart(
    episodes: Sequence[dict[str, float]],
    picture: np.ndarray | None = None,
    seen: np.ndarray | None = None,
    places: Sequence[float] | None = None,
    width: int = 0,
) -> str:
    """Draw crosses where Mario's episodes ended over the level, and how often above it.

    Args:
        episodes: facts with x_pos, x_max, and y_pos where it is known.
        picture, seen: as `level_map` returns them; None: a blank strip.
        places: what the bars count; None: where the episodes ended.
        width: at least so much of the level, in pixels.
    """
    places = [facts["x_pos"] for facts in episodes] if places is None else places
    height = _BLANK if picture is None else picture.shape[0]
    far = [*places, *(facts["x_pos"] for facts in episodes), 256.0]
    width = max(width, int(max(far)) + 40, 0 if picture is None else picture.shape[1])
    parts = [f'<rect class="blank" x="0" y="{_ROOM}" width="{width}" height="{height}"/>']
    if picture is not None:
        parts.append(
            f'<image x="0" y="{_ROOM}" width="{picture.shape[1]}" height="{height}" '
            f'href="{png_url(picture, seen)}"/>'
        )
    parts += _bars(places, _ROOM - 6)
    parts += [_mark(facts, _ROOM, height) for facts in episodes]
    size, bottom = min(40, max(15, width // 80)), _ROOM + height
    for x in ticks(0, width, 10):
        parts.append(f'<path class="axis" stroke-width="3" d="M{x:.0f} {bottom}v10"/>')
        side = "start" if x == 0 else "middle" if x < width - 60 else "end"
        parts.append(
            f'<text x="{x:.0f}" y="{bottom + 14 + size}" text-anchor="{side}" '
            f'font-size="{size}">{label(x)}</text>'
        )
    column = 0
    for how, colour in OUTCOMES.items():
        count = sum(outcome(facts) == how for facts in episodes)
        if count:
            name = f"{how} {count}"
            parts.append(
                f'<rect class="s{colour}" stroke-width="0" x="{column}" y="4" width="{size}" '
                f'height="{size}" rx="4"/><text class="name" x="{column + 1.3 * size}" y="{size}" '
                f'font-size="{size}">{name}</text>'
            )
            column += round(size * (2.5 + 0.55 * len(name)))
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" role="img" '
        f'aria-label="where episodes ended in the level" viewBox="0 0 {width} {bottom + 22 + size}">'
        f"{''.join(parts)}</svg>"
    )
