"""A page: one HTML file that holds everything it shows; it opens without a network."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import batched
from pathlib import Path

from mario_dreamer.tracking.atomic_file import write_text

STYLE = """
:root { --paper: #f4f4f1; --card: #ffffff; --ink: #1c2024; --soft: #5c656f; --line: #d9dbd6; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --card: #1d2127; --ink: #e7e9ec;
  --soft: #9aa4af; --line: #343a43; } img.chart { filter: invert(1) hue-rotate(180deg); } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1320px; padding: 14px 16px 40px; background: var(--paper);
  color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.35rem; margin: 4px 0; } h2 { font-size: 1.1rem; margin: 28px 0 4px; }
p { margin: 4px 0 10px; max-width: 90ch; } .soft, figcaption { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 10px;
  margin: 14px 0; padding: 0; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 8px 12px; }
.tiles dt { color: var(--soft); font-size: 0.8rem; }
.tiles dd { margin: 0; font-size: 1.15rem; font-weight: 600; overflow-wrap: anywhere; }
.row { display: grid; gap: 12px; margin-bottom: 12px; }
.n2 { grid-template-columns: repeat(2, minmax(0, 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 10px 12px; min-width: 0; }
.n1 figure:not(.wide) { display: grid; grid-template-columns: 3fr 2fr; gap: 24px;
  align-items: center; }
figure img, figure video { display: block; width: 100%; height: auto; }
.picture { background: #fff; } .pixels { image-rendering: pixelated; border-radius: 4px; }
figure video { image-rendering: pixelated; max-height: 420px; background: #000; }
.scroll { overflow-x: auto; } .scroll > * { min-width: 900px; }
figcaption { font-size: 0.85rem; margin-top: 6px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem;
  width: 100%; }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; } th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
.table { overflow-x: auto; margin-bottom: 12px; }
dl.small { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px;
  font-size: 0.85rem; margin: 0; } .small dt { color: var(--soft); }
.small dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 760px) { .row.row, .n1.n1 figure { grid-template-columns: minmax(0, 1fr); } }
"""
_PATH = re.compile(
    r"(?<![\w.:/~-])(?:[A-Za-z]:)?[\\/](?:[^\\/\s'\"=,;]+[\\/])*([^\\/\s'\"=,;]+)[\\/]?"
)


def without_paths(text: str) -> str:
    """Shorten the absolute paths in a text to their last part: pages travel, machines do not.

    >>> without_paths("train runs_dir=/root/runs resume='/home/me/run-1' http://a/b experiment=laptop")
    "train runs_dir=runs resume='run-1' http://a/b experiment=laptop"
    """
    return _PATH.sub(r"\1", text)


class Page:
    """Collect sections, figures and tables; `html` writes the file's text.

    A section appears only when something stands in it. Two figures share a row, so
    that their text is as large as the page's; a figure alone has its caption at its side.
    """

    def __init__(self, title: str, intro: str = "") -> None:
        self.title, self.intro = title, intro
        self.parts: list[str] = []
        self._heading = ""
        self._figures: list[str] = []

    def _add(self, part: str) -> None:
        if self._heading:
            self.parts.append(self._heading)
            self._heading = ""
        self.parts.append(part)

    def _end_rows(self) -> None:
        figures, self._figures = self._figures, []
        for mine in map("".join, batched(figures, 2)):
            self._add(f'<div class="row n{mine.count("<figure")}">{mine}</div>')

    def section(self, title: str, text: str = "") -> None:
        """Begin a section; the text says in plain words what it shows and whether it is healthy."""
        self._end_rows()
        about = f'<p class="soft">{escape(text)}</p>' if text else ""
        self._heading = f"<h2>{escape(title)}</h2>{about}"

    def tiles(self, numbers: Mapping[str, str]) -> None:
        """Show a few numbers large."""
        self._end_rows()
        cells = (f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in numbers.items())
        self._add(f'<dl class="tiles">{"".join(cells)}</dl>')

    def info(self, lines: Mapping[str, str]) -> None:
        """Show names and values small, one a line, without paths of this machine."""
        self._end_rows()
        rows = (
            f"<dt>{escape(name)}</dt><dd>{escape(without_paths(value))}</dd>"
            for name, value in lines.items()
        )
        self._add(f'<figure><dl class="small">{"".join(rows)}</dl></figure>')

    def figure(self, picture: str, caption: str, is_wide: bool = False) -> None:
        """Show a picture.

        Args:
            picture: an HTML image, as `charts.embed` makes it.
            caption: says how to read it; plain text.
            is_wide: the whole width of the page, scrolling sideways where that is too narrow.
        """
        caption = f"<figcaption>{escape(caption)}</figcaption>"
        if is_wide:
            self._end_rows()
            inside = f'<figure class="wide"><div class="scroll">{picture}</div>{caption}</figure>'
            self._add(f'<div class="row n1">{inside}</div>')
        else:
            self._figures.append(f"<figure>{picture}{caption}</figure>")

    def video(self, path: Path, caption: str) -> None:
        """Show a video file; it becomes a part of the page."""
        data = base64.b64encode(path.read_bytes()).decode()
        self.figure(
            f'<video controls muted loop playsinline src="data:video/mp4;base64,{data}"></video>',
            caption,
        )

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table."""
        self._end_rows()
        cells = [f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows]
        titles = "".join(f"<th>{escape(title)}</th>" for title in head)
        self._add(
            f'<figure class="table"><table><thead><tr>{titles}</tr></thead>'
            f"<tbody>{''.join(cells)}</tbody></table></figure>"
        )

    def html(self) -> str:
        """Return the whole page."""
        self._end_rows()
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            # An empty icon: without one a browser would ask for /favicon.ico.
            f'<link rel="icon" href="data:,"><title>{escape(self.title)}</title>'
            f"<style>{STYLE}</style></head><body><h1>{escape(self.title)}</h1>"
            f'<p class="soft">{escape(self.intro)}</p>{"".join(self.parts)}</body></html>\n'
        )

    def write(self, path: Path) -> Path:
        """Write the page into a file whose folder is made; return its path."""
        write_text(path, self.html())
        return path
