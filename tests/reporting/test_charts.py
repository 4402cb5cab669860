from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from mario_dreamer.reporting.charts import (
    RC,
    embed,
    flag_band,
    heat_map,
    histogram,
    learning,
    lines,
    running_mean,
    scatter,
)
from mario_dreamer.reporting.page import Page, without_paths


def ticks(figure: Figure) -> list[float]:
    figure.draw_without_rendering()
    return list(figure.axes[0].get_yticks())


def test_the_running_mean_looks_back_only() -> None:
    assert running_mean([1, 3, 5, 7], 3) == [1.0, 2.0, 3.0, 5.0]


def test_the_band_is_wilsons_over_the_last_twenty() -> None:
    low, high = flag_band([0.0] * 10 + [1.0] * 20)
    assert low[0] == 0.0 and high[0] == pytest.approx(0.793, abs=1e-3)  # 0 of 1
    assert low[-1] == pytest.approx(0.839, abs=1e-3) and high[-1] > 0.999  # 20 of 20


def test_a_histogram_counts_every_value_once() -> None:
    bars = [bar.get_height() for bar in histogram([0.0, 1.0, 1.0, 10.0], "x").axes[0].patches]
    assert [count for count in bars if count] == [1, 2, 1]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_counts_have_whole_ticks(count: int) -> None:
    assert all(tick == int(tick) for tick in ticks(histogram([5.0] * count, "x")))
    passed = lines([("", [0, 1], [float(count), 0.0])], "x", "episodes", is_count=True)
    assert all(tick == int(tick) for tick in ticks(passed))


def test_titles_are_as_large_as_the_text() -> None:
    axes = lines([("a", [0, 1], [1, 2])], "steps", "return").axes[0]
    sizes = {text.get_text(): text.get_fontsize() for text in axes.findobj(Text)}
    assert sizes["return"] == sizes["steps"] == RC["font.size"]


def test_lines_that_coincide_differ_in_style_and_width() -> None:
    drawn = lines([(n, [0, 1], [1, 1]) for n in "abc"], "x", "y").axes[0].get_lines()
    assert len({line.get_linewidth() for line in drawn}) == 3
    assert drawn[0].get_linestyle() == "-" and "-" not in {x.get_linestyle() for x in drawn[1:]}


@pytest.mark.parametrize("names", [["a", "b"], ["a_rather_long_name"] * 4])
def test_the_legend_lies_outside_of_the_axes(names: list[str]) -> None:
    figure = lines([(name, [0, 1], [1, 2]) for name in names], "x", "y")
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    axes = figure.axes[0].get_window_extent()
    assert not legend.overlaps(axes)
    assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1


def test_scatter_groups_by_what_was_predicted() -> None:
    figure = scatter([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 10.0, 20.0], "reward", bins=2)
    means = figure.axes[0].get_lines()[-1].get_xydata()
    assert means.tolist() == [[1.5, 2.0], [3.5, 15.0]]


CHARTS = {
    "lines": lambda: lines([("a", [0, 1], [1, 2]), ("b<&>", [0, 1], [3, 4])], "x", "y"),
    "nothing": lambda: lines([("a", [], [])], "x", "y"),
    "not a number": lambda: lines([("a", [0, 1, 2], [1.0, float("nan"), 2.0])], "x", "y", skip=0.1),
    "a constant": lambda: lines([("a", [5], [7.0])], "x", "y", skip=0.1),
    "learning": lambda: learning([1, 2], [0.0, 1.0], "flag rate", "agent steps"),
    "histogram": lambda: histogram([3.0], "x"),
    "scatter": lambda: scatter([1.0], [1.0], "value"),
    "heat map": lambda: heat_map(np.array([[0.5, 0.5], [1.0, 0.0]]), "class", "categorical"),
}


@pytest.mark.parametrize("kind", CHARTS)
def test_every_chart_becomes_one_image(kind: str) -> None:
    before = dict(matplotlib.rcParams)
    image = embed(CHARTS[kind](), "a <chart>")
    svg = base64.b64decode(image.split("base64,")[1].split('"')[0])
    assert ET.fromstring(svg).tag.endswith("svg") and b"</text>" in svg
    assert 'alt="a &lt;chart&gt;"' in image
    assert dict(matplotlib.rcParams) == before


def test_a_page_asks_no_network_and_lets_no_text_become_markup(tmp_path: Path) -> None:
    page = Page("run <script>", "a & b")
    page.section("<b>", "<i>")
    page.tiles({"<u>": "<s>"})
    page.figure(embed(lines([("a", [0, 1], [1, 2])], "x", "y"), "alt"), "<em>")
    (tmp_path / "film.mp4").write_bytes(b"film")
    page.video(tmp_path / "film.mp4", "<em>")
    page.table(["<th>"], [["<td>x"]])
    page.info({"<dt>": "<dd>"})
    text = page.html()
    for tag in ("<script", "<b>", "<i>", "<u>", "<s>", "<em>", "<td>x<td>"):
        assert tag not in text
    links = re.findall(r'(?:href|src)="([^"]*)"|url\(([^)]*)\)|@import', text)
    assert [link for link in links if not link[0].startswith("data:")] == []
    assert "data:video/mp4;base64,ZmlsbQ==" in text


def test_an_empty_section_does_not_appear() -> None:
    page = Page("run")
    page.section("Empty")
    page.section("Full")
    page.tiles({"a": "1"})
    assert "Empty" not in page.html() and "Full" in page.html()


@pytest.mark.parametrize(("count", "rows"), [(1, "1"), (2, "2"), (3, "21"), (4, "22"), (5, "221")])
def test_figures_fill_their_rows(count: int, rows: str) -> None:
    page = Page("run")
    for _ in range(count):
        page.figure("<img>", "")
    assert "".join(re.findall(r'class="row n(\d)"', page.html())) == rows


def test_no_path_of_the_machine_is_shown() -> None:
    page = Page("run")
    page.info({"command": "train runs_dir=/root/runs resume='/home/me/a-1' C:\\me\\b http://a/b"})
    assert "train runs_dir=runs resume=&#x27;a-1&#x27; b http://a/b" in page.html()
    assert without_paths("evaluation/best.json 3/4 ~/x") == "evaluation/best.json 3/4 ~/x"
