"""Charts of reports and benchmarks, from plain numbers to matplotlib figures.

Rules: counts have whole ticks, titles are as large as the text, the legend stands below the axes
and never on data, lines that coincide stay visible. No pyplot: nothing is kept between figures.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape

import matplotlib.image
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from mario_dreamer.training.evaluation import wilson_interval

SIZE = (4.4, 2.6)  # inches: half a row of the page, which shows 9 points as large as its text
WINDOW = 20  # episodes in a running mean
COLOURS = ("#2463c9", "#c2660a", "#1f9d45", "#d92c2c", "#7d4bc4")
# Later lines are thinner and dashed: one that lies on another leaves it visible.
STYLES = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), (0, (1, 1)))
INK = "#3a4048"
_FEW, _DOTS = 12, 1500  # values so few that each gets a dot; faint dots at most
Line = tuple[str, Sequence[float], Sequence[float]]  # name, xs, ys
RC = {
    "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 9,
    "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "axes.edgecolor": INK, "text.color": INK,
    "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "svg.fonttype": "none",
    "savefig.facecolor": "none", "axes.facecolor": "none", "figure.facecolor": "none",
}  # fmt: skip


def new_figure(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = SIZE, **options: object
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes, [rows, columns].

    Args:
        options: of `Figure.subplots`.
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=size, layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **options)


def finish(
    axes: Axes, title: str, x_label: str = "", *, is_count: bool = False, in_steps: bool = False
) -> None:
    """Label axes; whole ticks where the y axis counts, 20k where the x axis is in steps."""
    axes.set_title(title, loc="left", fontsize=RC["axes.titlesize"], color=INK)
    axes.set_xlabel(x_label)
    if is_count:
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_ylim(0, max(1.05, axes.get_ylim()[1]))  # where nothing is counted too
    if in_steps:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def add_legend(figure: Figure, axes: Axes, place: str = "outside lower left") -> None:
    """Name what the axes show outside of them, in as many columns as fit."""
    handles, names = axes.get_legend_handles_labels()
    room = 11 * figure.get_figwidth()  # characters; a mark takes about eight
    fitting = int(room / (8 + max(map(len, names), default=0)))
    columns = max(1, min(len(names), fitting))
    with matplotlib.rc_context(RC):
        figure.legend(handles, names, loc=place, ncols=columns, frameon=False)


def embed(figure: Figure | np.ndarray, alt: str, kind: str = "svg") -> str:
    """Return a figure, or a picture uint8 [H, W, 3], as an HTML image without another file.

    Args:
        kind: of a figure: svg, or png where it shows pictures.
    """
    file = io.BytesIO()
    if isinstance(figure, np.ndarray):
        kind, look = "png", "pixels"
        matplotlib.image.imsave(file, figure)
    else:
        look = "chart" if kind == "svg" else "picture"
        with matplotlib.rc_context(RC):
            figure.savefig(file, format=kind, dpi=120)
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img class="{look}" alt="{escape(alt, quote=True)}" src="data:{mime};base64,{data}">'


def running_mean(values: Sequence[float], window: int = WINDOW) -> list[float]:
    """Mean over the last `window` values, fewer at the beginning.

    >>> running_mean([0, 2, 4, 6], 2)
    [0.0, 1.0, 3.0, 5.0]
    """
    total = np.cumsum([0.0, *values])
    last = np.arange(1, len(values) + 1)
    first = np.maximum(last - window, 0)
    return ((total[last] - total[first]) / (last - first)).tolist()


def flag_band(flags: Sequence[float]) -> tuple[list[float], list[float]]:
    """Wilson's 95 % interval of the flag rate over the last WINDOW episodes, at each episode."""
    recent = [flags[max(0, i + 1 - WINDOW) : i + 1] for i in range(len(flags))]
    ends = [wilson_interval(round(sum(part)), len(part)) for part in recent]
    return [low for low, _ in ends], [high for _, high in ends]


def draw_curve(axes: Axes, number: int, line: Line) -> None:
    """Draw the number-th line; a line of few points gets dots."""
    name, xs, ys = line
    axes.plot(
        xs, ys, color=COLOURS[number % len(COLOURS)], linestyle=STYLES[number % len(STYLES)],
        linewidth=max(1.3, 2.4 - 0.4 * number), label=name,
        marker="o" if len(xs) <= _FEW else None, markersize=4,
    )  # fmt: skip


def draw_learning(axes: Axes, number: int, name: str, xs: Sequence[float], ys: Sequence[float],
                  is_flag: bool = False) -> None:  # fmt: skip
    """Draw the running mean of episodes; behind it each episode, or the flag rate's interval."""
    colour = COLOURS[number % len(COLOURS)]
    if is_flag:
        axes.fill_between(xs, *flag_band(ys), color=colour, alpha=0.15, linewidth=0)
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    else:
        every = max(1, math.ceil(len(xs) / _DOTS))
        axes.plot(xs[::every], ys[::every], ".", color=colour, markersize=2.5, alpha=0.25,
                  rasterized=True)  # fmt: skip
    draw_curve(axes, number, (name, xs, running_mean(ys)))


def learning(xs: Sequence[float], ys: Sequence[float], title: str, x_label: str) -> Figure:
    """Draw a learning curve of one run; see `draw_learning`."""
    figure, axes = new_figure()
    draw_learning(axes[0, 0], 0, "", xs, ys, title == "flag rate")
    finish(axes[0, 0], title, x_label, in_steps=x_label == "agent steps")
    return figure


def lines(
    curves: Sequence[Line],
    x_label: str,
    title: str,
    *,
    skip: float = 0.0,
    is_count: bool = False,
    size: tuple[float, float] = SIZE,
) -> Figure:
    """Draw curves over one axis; several are named below it.

    Args:
        curves: name, xs, ys.
        skip: share of each curve's beginning that the y axis need not fit: a first value far
            above all others would flatten the rest.
    """
    figure, ((axes,),) = new_figure(size=size)
    for number, curve in enumerate(curves):
        draw_curve(axes, number, curve)
    finish(axes, title, x_label, is_count=is_count, in_steps="steps" in x_label)
    shown = [v for _, _, ys in curves for v in ys[int(skip * len(ys)) :] if math.isfinite(v)]
    if skip and shown:
        low, high = min(shown), max(shown)
        air = 0.05 * (high - low) or 0.5
        axes.set_ylim(low - air, high + air)
    if len(curves) > 1:
        add_legend(figure, axes)
    return figure


def histogram(values: Sequence[float], title: str) -> Figure:
    """Draw how often values fall into each of 24 equal intervals from 0 (or below).

    Args:
        values: at least one; the largest is pointed out.
        title: what they are.
    """
    figure, ((axes,),) = new_figure()
    low, high = min(0.0, *values), max(values)
    axes.hist(values, bins=24, range=(low, max(high, low + 1)), color=COLOURS[0], rwidth=0.94)
    axes.axvline(
        high, color=COLOURS[1], linestyle="--", linewidth=1.5, label=f"largest {high:,.6g}"
    )
    finish(axes, "episodes", title, is_count=True)
    add_legend(figure, axes)
    return figure


def scatter(predicted: Sequence[float], real: Sequence[float], what: str, bins: int = 12) -> Figure:
    """Draw predicted against real with the diagonal, and the means of equally large groups.

    Args:
        predicted, real: of equal length, at least one.
        what: named on the axes.
        bins: number of groups, by predicted value.
    """
    figure, ((axes,),) = new_figure(size=(5.4, 3.8))
    pairs = np.array(sorted(zip(predicted, real, strict=True)))
    ends = (float(pairs.min()), float(pairs.max()))
    axes.plot(ends, ends, "--", color=INK, linewidth=1.2, label="right")
    shown = pairs[:: max(1, math.ceil(len(pairs) / 700))]
    axes.plot(*shown.T, ".", color=COLOURS[0], alpha=0.35, markersize=4, label="one step")
    groups = np.array_split(pairs, min(bins, len(pairs)))
    means = np.array([group.mean(0) for group in groups])
    axes.plot(*means.T, "o", color=COLOURS[1], markersize=6, label=f"mean of {len(groups[0])}")
    finish(axes, f"real {what}", f"predicted {what}")
    add_legend(figure, axes)
    return figure


def heat_map(shares: np.ndarray, x_label: str, y_label: str) -> Figure:
    """Draw a table of shares in [0, 1]; the darker, the larger, on a square-root scale."""
    figure, ((axes,),) = new_figure(size=(5.6, 3.6))
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), aspect="auto")
    axes.grid(False)
    finish(axes, y_label, x_label)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    with matplotlib.rc_context(RC):
        figure.colorbar(image, format=PercentFormatter(1.0), label="share of time")
    return figure
