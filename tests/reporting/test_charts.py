from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from mario_dreamer.reporting.charts import heat_map, histogram, lines, running_mean, scatter
from mario_dreamer.reporting.page import Page
from mario_dreamer.reporting.plot import Plot, label, standalone, ticks


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 7.3) == [0.0, 2.0, 4.0, 6.0]
    assert ticks(-0.2, 0.2, 4) == [-0.2, -0.1, 0.0, 0.1, 0.2]
    assert ticks(0, 24_448) == [0.0, 5000.0, 10_000.0, 15_000.0, 20_000.0]
    assert [label(x) for x in (0, -0.125, 12_500, 2e6)] == ["0", "-0.125", "12.5k", "2M"]


def test_a_point_lands_where_the_axes_say() -> None:
    plot = Plot((0, 10), (0, 100), width=400, height=230)
    assert plot.at(0, 0) == (plot.left, 230 - plot.bottom)
    assert plot.at(10, 100) == (400 - plot.right, plot.top)
    assert plot.at(99, 999) == plot.at(10, 100), "what is outside is put onto the border"


def test_the_running_mean_looks_back_only() -> None:
    assert running_mean([1, 3, 5, 7], 3) == [1.0, 2.0, 3.0, 5.0]


def test_a_histogram_counts_every_value_once() -> None:
    chart = histogram([0.0, 1.0, 1.0, 10.0], "x", bins=5)
    counts = [int(found) for found in re.findall(r": (\d+)</title>", chart)]
    assert counts == [3, 0, 0, 0, 1]


def test_scatter_groups_by_what_was_predicted() -> None:
    chart = scatter([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 10.0, 20.0], "reward", bins=2)
    assert "predicted 1.5, real 2<" in chart and "predicted 3.5, real 15<" in chart


CHARTS = {
    "lines": lambda: lines([("a", [0, 1], [1, 2]), ("b<&>", [0, 1], [3, 4])], "x", "y"),
    "nothing": lambda: lines([("a", [], [])], "x", "y"),
    "not a number": lambda: lines([("a", [0, 1, 2], [1.0, float("nan"), 2.0])], "x", "y"),
    "a constant": lambda: lines([("a", [5], [7.0])], "x", "y"),
    "band": lambda: lines([("", [0, 1], [0.5, 0.5])], "x", "y", band=([0, 1], [0, 0], [1, 1])),
    "histogram": lambda: histogram([3.0], "x", mark=4.0),
    "scatter": lambda: scatter([1.0], [1.0], "value"),
    "heat map": lambda: heat_map([[0.5, 0.5], [1.0, 0.0]], "class", "categorical"),
}


@pytest.mark.parametrize("kind", CHARTS)
def test_every_chart_is_well_formed(kind: str) -> None:
    chart = CHARTS[kind]()
    root = ET.fromstring(standalone(chart))
    assert root.tag.endswith("svg")
    assert "nan" not in chart.lower() and "inf" not in chart.lower()


def test_a_page_asks_no_network_and_lets_no_text_become_markup() -> None:
    page = Page("run <script>", "a & b")
    page.section("<b>", "<i>")
    page.tiles({"<u>": "<s>"})
    page.figure(lines([("a", [0, 1], [1, 2])], "x", "y"), "<em>")
    page.table(["<th>"], [["<td>x"]])
    page.facts({"<dt>": "<dd>"})
    text = page.html()
    for tag in ("<script", "<b>", "<i>", "<u>", "<s>", "<em>", "<td>x<td>"):
        assert tag not in text
    links = re.findall(r'(?:href|src)="([^"]*)"|url\(([^)]*)\)|@import', text)
    assert [link for link in links if not link[0].startswith("data:")] == []
