"""Charts: the kinds of pictures a report is made of, each from plain numbers to SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mario_dreamer.reporting.plot import COLOURS, Plot, label

__all__ = ["Line", "heat_map", "histogram", "lines", "running_mean", "scatter"]

_FEW = 12  # values so few that each gets a dot
_DOTS = 1500  # faint dots at most; a long run has many thousand episodes
Line = tuple[str, Sequence[float], Sequence[float]]  # name, xs, ys


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean over the last `window` values, fewer at the beginning.

    >>> running_mean([0, 2, 4, 6], 2)
    [0.0, 1.0, 3.0, 5.0]
    """
    means, total = [], 0.0
    for i, value in enumerate(values):
        total += value - (values[i - window] if i >= window else 0.0)
        means.append(total / min(i + 1, window))
    return means


def _span(values: list[float], least: tuple[float, float] | None) -> tuple[float, float]:
    """Low and high of what is there, with a little air; `least` is always inside."""
    found = [value for value in values if math.isfinite(value)]
    if not found:
        return least or (0.0, 1.0)
    low, high = min(found), max(found)
    if least is not None:
        low, high = min(low, least[0]), max(high, least[1])
    air = (high - low) * 0.04 or 0.5
    return (low if low == 0 else low - air), (high if high == 1 else high + air)


def lines(
    curves: Sequence[Line],
    x_label: str,
    y_label: str,
    points: Sequence[tuple[Sequence[float], Sequence[float]]] = (),
    band: tuple[Sequence[float], Sequence[float], Sequence[float]] | None = None,
    y: tuple[float, float] | None = None,
    calm: bool = False,
) -> str:
    """Draw curves over one axis.

    Args:
        curves: name, xs, ys; the names make the legend when there are several.
        x_label, y_label: what the axes show.
        points: xs, ys of faint dots behind the curves, in the curves' colours.
        band: xs, low, high, shaded behind the first curve.
        y: must be inside the y axis.
        calm: fit the y axis to what comes after the first tenth of each curve.
    """
    shown = [*curves, *(("", xs, ys) for xs, ys in points)]
    # A first value far above all others would flatten the rest: it is put onto the border.
    skip = 0.1 if calm else 0.0
    ys = [v for _, _, values in shown for v in values[int(skip * len(values)) :]]
    xs = [x for _, values, _ in shown for x in values]
    plot = Plot(_span_x(xs), _span(ys, y), x_label, y_label)
    for colour, (dot_x, dot_y) in enumerate(points):
        every = max(1, math.ceil(len(dot_x) / _DOTS))
        plot.dots(dot_x[::every], dot_y[::every], colour % COLOURS)
    if band is not None:
        plot.band(*band, 0)
    for colour, (name, x, values) in enumerate(curves):
        plot.line(x, values, colour % COLOURS, name if len(curves) > 1 else "")
        if len(x) <= _FEW:
            plot.dots(x, values, colour % COLOURS, radius=3, strong=True)
    return plot.svg()


def _span_x(xs: list[float]) -> tuple[float, float]:
    return (min(0.0, min(xs)), max(xs)) if xs else (0.0, 1.0)


def histogram(
    values: Sequence[float], x_label: str, y_label: str = "episodes", bins: int = 24,
    mark: float | None = None,
) -> str:  # fmt: skip
    """Draw how often values fall into each of `bins` equal intervals from 0 (or below).

    Args:
        values: at least one.
        x_label, y_label: what the axes show.
        bins: number of intervals.
        mark: a value to point out with a dashed line.
    """
    low = min(0.0, min(values))
    high = max([*values, low + 1e-9, *([] if mark is None else [mark])])
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / (high - low) * bins))] += 1
    edges = [low + (high - low) * i / bins for i in range(bins + 1)]
    plot = Plot((low, high), (0.0, max(counts) * 1.05), x_label, y_label)
    plot.bars(edges, counts, 0)
    if mark is not None:
        plot.rule((mark, 0.0), (mark, max(counts) * 1.05))
    return plot.svg(f"histogram of {x_label}")


def scatter(
    predicted: Sequence[float], real: Sequence[float], what: str, most: int = 700, bins: int = 12
) -> str:
    """Draw predicted against real with the diagonal, and the mean real value of each bin.

    Args:
        predicted, real: as many of one as of the other, at least one.
        what: named on the axes.
        most: points drawn, evenly chosen.
        bins: groups of equal size, by predicted value, whose means are drawn strongly.
    """
    both = [*predicted, *real]
    span = _span(both, None)
    plot = Plot(span, span, f"predicted {what}", f"real {what}", height=330)
    plot.rule((span[0], span[0]), (span[1], span[1]))
    pairs = sorted(zip(predicted, real, strict=True))
    shown = pairs[:: max(1, math.ceil(len(pairs) / most))]
    plot.dots([p for p, _ in shown], [r for _, r in shown], 0, "one step")
    size = max(1, math.ceil(len(pairs) / bins))
    groups = [pairs[i : i + size] for i in range(0, len(pairs), size)]
    means = [tuple(sum(c) / len(group) for c in zip(*group, strict=True)) for group in groups]
    titles = [f"predicted {label(p)}, real {label(r)}" for p, r in means]
    plot.dots([p for p, _ in means], [r for _, r in means], 1, f"mean of {size}", 4, True, titles)
    return plot.svg(f"predicted against real {what}")


def heat_map(rows: Sequence[Sequence[float]], x_label: str, y_label: str) -> str:
    """Draw a table of shares in [0, 1] as squares, the stronger the more; square-root scale."""
    columns = max(len(row) for row in rows)
    size = max(8, min(22, 340 // columns))
    left, top = 46, 22
    marks = []
    for i, row in enumerate(rows):
        for j, share in enumerate(row):
            marks.append(
                f'<rect class="s0" stroke-width="0" x="{left + j * size}" y="{top + i * size}" '
                f'width="{size - 1}" height="{size - 1}" fill-opacity="{math.sqrt(share):.2f}">'
                f"<title>{y_label} {i}, {x_label} {j}: {share:.1%}</title></rect>"
            )
    width, height = left + columns * size + 10, top + len(rows) * size + 26
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" role="img" '
        f'aria-label="{y_label} by {x_label}" viewBox="0 0 {max(width, 400)} {height}">'
        f'<text class="name" x="4" y="13">{y_label}</text>'
        f'<rect class="blank" x="{left - 1}" y="{top - 1}" width="{columns * size + 1}" '
        f'height="{len(rows) * size + 1}"/>{"".join(marks)}'
        f'<text x="{left + columns * size / 2}" y="{height - 6}" text-anchor="middle">'
        f"{x_label}</text></svg>"
    )
