"""Where episodes end, drawn over the map of the level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from mario_dreamer.reporting.charts import COLOURS, add_legend, finish, new_figure

# -> colour, marker
OUTCOMES = {
    "flag": (COLOURS[2], "o"), "died": (COLOURS[3], "x"), "time ran out": (COLOURS[4], "x"),
    "stopped": (COLOURS[1], "x"),
}  # fmt: skip
BAR = 40  # pixels of the level in a bar
PART = 1700  # pixels of the level in a row of the picture
HEIGHT, GROUND = 208, 24  # of the map, and of the ground that Mario stands on


def outcome(info: Mapping[str, float]) -> str:
    """Name how an episode ended: flag, died, time ran out, or stopped (no progress, too long).

    In an env without a flag, where an end may be good or bad: ended, or stopped (cut off).

    Args:
        info: of `training.evaluation.Episode`.
    """
    if info.get("flag"):
        return "flag"
    if not info.get("terminated", 1.0):
        return "stopped"
    if "flag" not in info:
        return "ended"
    return "time ran out" if info.get("time", 1.0) <= 0 else "died"


def death_chart(
    episodes: Sequence[Mapping[str, float]],
    picture: np.ndarray | None = None,
    places: Sequence[float] | None = None,
) -> Figure:
    """Mark where Mario was when his episodes ended, and count above it; long levels in rows.

    Args:
        episodes: info with x_pos, and y_pos where it is known.
        picture: as `level_map` returns it; None: a blank level.
        places: what the bars count; None: where the episodes ended.
    """
    ends = [info["x_pos"] for info in episodes]
    counted = ends if places is None else places
    width = max([256, *ends, *counted, 0 if picture is None else picture.shape[1]]) + BAR
    parts = max(1, round(width / PART))
    span = BAR * np.ceil(width / parts / BAR)
    figure, axes = new_figure(
        2 * parts, 1, (12.9, 0.4 + 3.15 * parts), height_ratios=[1.1, 1.8] * parts
    )
    for part in range(parts):
        bars, level = axes[2 * part, 0], axes[2 * part + 1, 0]
        edges = np.arange(part * span, (part + 1) * span + 1, BAR)
        bars.hist(counted, bins=edges, color=COLOURS[0], rwidth=0.9)
        finish(bars, "episodes", is_count=True)
        _draw_level(level, picture)
        for name, (colour, marker) in OUTCOMES.items():
            mine = [info for info in episodes if outcome(info) == name]
            heights = [_height(info) for info in mine]
            level.plot(
                [info["x_pos"] for info in mine], heights, marker, color=colour, markersize=11,
                markeredgewidth=2.6, markerfacecolor="none", alpha=0.9,
                path_effects=[withStroke(linewidth=5, foreground="white")],
                label=f"{name} {len(mine)}" if mine else None,
            )  # fmt: skip
        for axis in (bars, level):
            axis.set_xlim(part * span, (part + 1) * span)
        bars.tick_params(labelbottom=False)
        level.set(xlabel="x in the level, pixels", ylim=(0, HEIGHT), yticks=[])
    top = max(bars.get_ylim()[1] for bars in axes[::2, 0])
    for bars in axes[::2, 0]:
        bars.set_ylim(0, top)  # one scale for all rows
    add_legend(figure, axes[1, 0], "outside upper left")
    return figure


def _draw_level(axes: Axes, picture: np.ndarray | None) -> None:
    axes.set_facecolor("#d9dbd6")
    axes.grid(False)
    if picture is not None:
        extent = (0, picture.shape[1], 0, picture.shape[0])
        axes.imshow(picture, extent=extent, aspect="auto")


def _height(info: Mapping[str, float]) -> float:
    """Height of a mark above the lower edge of the map; in a pit, just above the edge."""
    return float(np.clip(info.get("y_pos", 79.0) - 79.0 + GROUND + 12, 10, HEIGHT - 10))
