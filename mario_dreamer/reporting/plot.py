"""Plot: a frame with two axes to draw on, as SVG text. No library, no script, light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["COLOURS", "STYLE", "Plot", "label", "standalone", "ticks"]

COLOURS = 5  # classes s0 .. s4
# One set of colours for light paper, one for dark; pages and single files share it.
STYLE = """
:root { --paper: #f4f4f1; --card: #ffffff; --ink: #1c2024; --soft: #5c656f; --line: #d9dbd6;
  --s0: #2463c9; --s1: #c2660a; --s2: #1f9d45; --s3: #d92c2c; --s4: #7d4bc4; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --card: #1d2127; --ink: #e7e9ec;
  --soft: #9aa4af; --line: #343a43; --s0: #6ea8ff; --s1: #f0a04b; --s2: #35c463; --s3: #ff6b6b;
  --s4: #b794f4; } }
svg.chart { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
.chart text { fill: var(--soft); } .chart .name { fill: var(--ink); }
.chart tspan { stroke: none; }
.chart .grid { stroke: var(--line); stroke-width: 1; } .chart .axis { stroke: var(--soft); }
.chart path.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.chart .rule { stroke: var(--soft); stroke-dasharray: 4 4; fill: none; }
.chart .dot { stroke: none; opacity: 0.35; } .chart .band { stroke: none; opacity: 0.18; }
.chart .strong { opacity: 1; } .chart .blank { fill: var(--line); opacity: 0.45; }
""" + "".join(
    f".chart .s{i} {{ stroke: var(--s{i}); fill: var(--s{i}); }}\n.chart path.line.s{i} "
    f"{{ fill: none; }}\n" for i in range(COLOURS)
)  # fmt: skip
_MOST = 400  # points of a line; more cannot be told apart


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Choose round numbers between two ends, about `count` of them.

    >>> ticks(0, 100)
    [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
    """
    raw = max(high - low, 1e-12) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * part for part in (1, 2, 2.5, 5, 10) if size * part >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def label(value: float) -> str:
    """Write a number as briefly as an axis needs it.

    >>> [label(x) for x in (0.25, 1500, 20000.0, 3000000)]
    ['0.25', '1500', '20k', '3M']
    """
    for size, unit in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1000 if unit == 'k' else size):.4g}{unit}"
    return f"{value:.4g}"


def _ends(values: tuple[float, float]) -> tuple[float, float]:
    """A range of no width gets some."""
    low, high = values
    return (low, high) if high > low else (low - 0.5, high + 0.5)


class Plot:
    """Collect marks in data coordinates; `svg` writes them out.

    Args:
        x, y: what the axes span, low and high.
        x_label, y_label: below and above the frame.
        width, height: in SVG's units; the picture grows with the page.
        x_ticks: own ticks; None chooses round numbers.
    """

    left, right, top, bottom = 46, 10, 36, 36

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        x_label: str = "",
        y_label: str = "",
        width: int = 400,
        height: int = 230,
        x_ticks: Sequence[float] | None = None,
    ) -> None:
        self.x, self.y = _ends(x), _ends(y)
        self.x_label, self.y_label = x_label, y_label
        self.width, self.height, self.x_ticks = width, height, x_ticks
        self.marks: list[str] = []
        self.names: list[tuple[str, int]] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Data to picture coordinates; what lies outside is put onto the border."""
        across = min(1.0, max(0.0, (x - self.x[0]) / (self.x[1] - self.x[0])))
        up = min(1.0, max(0.0, (y - self.y[0]) / (self.y[1] - self.y[0])))
        inner = (self.width - self.left - self.right, self.height - self.top - self.bottom)
        return (
            round(self.left + across * inner[0], 1),
            round(self.top + (1 - up) * inner[1], 1),
        )

    def _points(self, xs: Iterable[float], ys: Iterable[float]) -> list[str]:
        pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(x + y)]
        every = max(1, math.ceil(len(pairs) / _MOST))
        chosen = pairs[::every] + (pairs[-1:] if (len(pairs) - 1) % every else [])
        return ["{} {}".format(*self.at(x, y)) for x, y in chosen]

    def line(self, xs: Iterable[float], ys: Iterable[float], colour: int, name: str = "") -> None:
        """Draw a line; a name puts it into the legend."""
        points = self._points(xs, ys)
        if points:
            self.marks.append(f'<path class="line s{colour}" d="M{"L".join(points)}"/>')
        self.name(name, colour)

    def band(
        self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], colour: int
    ) -> None:
        """Shade what lies between two lines."""
        around = self._points(xs, high) + self._points(xs, low)[::-1]
        if around:
            self.marks.append(f'<path class="band s{colour}" d="M{"L".join(around)}Z"/>')

    def dots(
        self, xs: Iterable[float], ys: Iterable[float], colour: int, name: str = "",
        radius: float = 1.8, strong: bool = False, titles: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        """Draw points; titles are shown when the pointer rests on one."""
        told = titles or [""] * len(list(xs := list(xs)))
        look = f"dot{' strong' if strong else ''} s{colour}"
        for x, y, title in zip(xs, ys, told, strict=True):
            if math.isfinite(x + y):
                cx, cy = self.at(x, y)
                inside = f"<title>{escape(title)}</title>" if title else ""
                self.marks.append(
                    f'<circle class="{look}" cx="{cx}" cy="{cy}" r="{radius}">{inside}</circle>'
                )
        self.name(name, colour)

    def bars(self, edges: Sequence[float], heights: Sequence[float], colour: int) -> None:
        """Draw a histogram: `edges` has one entry more than `heights`."""
        for low, high, value in zip(edges, edges[1:], heights, strict=False):
            x0, y0 = self.at(low, value)
            x1, y1 = self.at(high, max(0.0, self.y[0]))
            title = f"{label(low)} to {label(high)}: {label(value)}"
            self.marks.append(
                f'<rect class="s{colour}" stroke-width="0" x="{x0}" y="{y0}" '
                f'width="{max(0.5, x1 - x0 - 0.6):.1f}" height="{y1 - y0:.1f}">'
                f"<title>{title}</title></rect>"
            )

    def rule(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draw a dashed line between two points."""
        (x0, y0), (x1, y1) = self.at(*start), self.at(*end)
        self.marks.append(f'<path class="rule" d="M{x0} {y0}L{x1} {y1}"/>')

    def name(self, name: str, colour: int) -> None:
        """Put a name into the legend; an empty one is left out."""
        if name:
            self.names.append((name, colour))

    def _axes(self) -> list[str]:
        out = []
        for y in ticks(*self.y, 4):
            x0, row = self.at(self.x[0], y)
            out.append(f'<path class="grid" d="M{x0} {row}H{self.width - self.right}"/>')
            out.append(f'<text x="{x0 - 5}" y="{row + 4}" text-anchor="end">{label(y)}</text>')
        low = self.height - self.bottom
        for x in ticks(*self.x, 5) if self.x_ticks is None else self.x_ticks:
            column, _ = self.at(x, self.y[0])
            out.append(f'<path class="axis" d="M{column} {low}v4"/>')
            out.append(f'<text x="{column}" y="{low + 16}" text-anchor="middle">{label(x)}</text>')
        out.append(f'<path class="axis" d="M{self.left} {low}H{self.width - self.right}"/>')
        middle = (self.left + self.width - self.right) / 2
        out.append(
            f'<text x="{middle}" y="{self.height - 5}" text-anchor="middle">'
            f"{escape(self.x_label)}</text>"
        )
        out.append(f'<text class="name" x="4" y="13">{escape(self.y_label)}</text>')
        return out

    def _legend(self) -> str:
        """Name the colours in one line of text: its parts need no width of ours."""
        parts = [
            f'<tspan class="s{colour}">\u25a0</tspan> {escape(name)}' for name, colour in self.names
        ]
        right = self.width - self.right
        return f'<text x="{right}" y="28" text-anchor="end">{" \u00a0 ".join(parts)}</text>'

    def svg(self, title: str = "") -> str:
        """Write the picture; the title is for those who cannot see it."""
        inside = "".join([*self._axes(), *self.marks, self._legend() if self.names else ""])
        about = escape(title or f"{self.y_label} over {self.x_label}", quote=True)
        return (
            f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" role="img" '
            f'aria-label="{about}" viewBox="0 0 {self.width} {self.height}">{inside}</svg>'
        )


def standalone(svg: str) -> str:
    """Make a picture of a page a file of its own: with colours, paper and size."""
    head, rest = svg.split(">", 1)
    style = f'<style>{STYLE}</style><rect width="100%" height="100%" style="fill: var(--card)"/>'
    return f"{head}>{style}{rest}"
