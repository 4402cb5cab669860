"""Page: one HTML file that holds everything it shows; opens anywhere, asks no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from mario_dreamer.reporting.plot import STYLE

__all__ = ["Page"]

_LAYOUT = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1320px; padding: 14px 16px 40px; background: var(--paper);
  color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.35rem; margin: 4px 0; } h2 { font-size: 1.1rem; margin: 28px 0 4px; }
p { margin: 4px 0 10px; max-width: 80ch; } .soft, figcaption { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 10px;
  margin: 14px 0; padding: 0; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 8px 12px; }
.tiles dt { color: var(--soft); font-size: 0.8rem; }
.tiles dd { margin: 0; font-size: 1.15rem; font-weight: 600; overflow-wrap: anywhere; }
.figures { display: grid; gap: 12px; margin-bottom: 12px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 360px), 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 10px 12px; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
.scroll { overflow-x: auto; } .scroll > * { min-width: 1080px; }
figcaption { font-size: 0.85rem; margin-top: 6px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; } th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; } .table { overflow-x: auto; }
img { max-width: none; image-rendering: pixelated; border-radius: 4px; }
dl.small { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px;
  font-size: 0.85rem; margin: 0; } .small dt { color: var(--soft); }
.small dd { margin: 0; overflow-wrap: anywhere; }
"""


class Page:
    """Collect sections, figures and tables; `html` writes the file's text.

    Args:
        title: of the page.
        intro: one sentence below it, plain text.
    """

    def __init__(self, title: str, intro: str = "") -> None:
        self.title, self.intro = title, intro
        self.parts: list[str] = []
        self._figures: list[str] = []

    def _flush(self) -> None:
        if self._figures:
            self.parts.append(f'<div class="figures">{"".join(self._figures)}</div>')
            self._figures = []

    def section(self, title: str, text: str = "") -> None:
        """Begin a section; the text is plain."""
        self._flush()
        self.parts.append(f"<h2>{escape(title)}</h2>")
        if text:
            self.parts.append(f'<p class="soft">{escape(text)}</p>')

    def tiles(self, numbers: Mapping[str, str]) -> None:
        """Show a few numbers large."""
        self._flush()
        cells = (f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in numbers.items())
        self.parts.append(f'<dl class="tiles">{"".join(cells)}</dl>')

    def facts(self, facts: Mapping[str, str]) -> None:
        """Show facts small, one a line."""
        self._flush()
        rows = (f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
        self.parts.append(f'<figure><dl class="small">{"".join(rows)}</dl></figure>')

    def figure(self, picture: str, caption: str, wide: bool = False) -> None:
        """Show a picture.

        Args:
            picture: SVG text, or another piece of HTML of our own making.
            caption: says how to read it; plain text.
            wide: the whole width of the page, scrolling sideways where that is too narrow.
        """
        inside = f'<div class="scroll">{picture}</div>' if wide else picture
        self._figures.append(
            f"<figure{' class=wide' if wide else ''}>{inside}"
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table."""
        self._flush()
        cells = [f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows]
        titles = "".join(f"<th>{escape(title)}</th>" for title in head)
        self.parts.append(
            f'<figure class="table"><table><thead><tr>{titles}</tr></thead>'
            f"<tbody>{''.join(cells)}</tbody></table></figure>"
        )

    def html(self) -> str:
        """Return the whole page."""
        self._flush()
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            # An empty icon: without one a browser would ask for /favicon.ico.
            f'<link rel="icon" href="data:,"><title>{escape(self.title)}</title>'
            f"<style>{STYLE}{_LAYOUT}</style></head><body><h1>{escape(self.title)}</h1>"
            f'<p class="soft">{escape(self.intro)}</p>{"".join(self.parts)}</body></html>\n'
        )

    def write(self, path: Path) -> Path:
        """Write the page into a file whose folder is made; return its path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}")
        draft.write_text(self.html(), encoding="utf-8")
        draft.replace(path)
        return path
