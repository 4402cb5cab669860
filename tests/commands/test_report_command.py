"""The report of a whole run, in a real headless Chromium; run with -m slow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mario_dreamer.commands.report import run_folder
from mario_dreamer.reporting.charts import embed
from mario_dreamer.reporting.deaths import death_chart
from mario_dreamer.reporting.history import History
from mario_dreamer.reporting.page import Page
from mario_dreamer.reporting.run_sections import (
    add_coverage,
    add_head,
    add_learning,
    add_losses,
    add_videos,
)
from mario_dreamer.training.checkpoint_files import CheckpointError


def finished_run(episodes: int = 40) -> History:
    """A run that has learned to walk a little, without any file."""
    history = History("walker", {"status": "FINISHED"}, {"seed": 1, "env": {"action_repeat": 4}})
    for i in range(episodes):
        place = {"step": 50.0 * i, "frames": 200.0 * i, "hours": 0.01 * i}
        shown = {"return": 10.0 * i, "length": 50.0, "x_max": 40.0 + 20 * i, "flag": float(i > 30)}
        history.episodes.append(place | shown)
        history.reports.append(place | {"train/loss_recon": 1000.0 / (i + 1), "train/kl": 3.0})
    return history


def page_of(history: History) -> Page:
    page = Page(history.name)
    for add in (add_head, add_learning, add_coverage, add_losses):
        add(page, history)
    return page


def test_the_curves_of_a_run_need_no_checkpoint() -> None:
    text = page_of(finished_run()).html()
    assert text.count('class="chart"') == 6 + 2 + 2  # learning, coverage, losses
    assert "healthy: it rises" in text and "Here all are finite" in text
    assert "flags in training</dt><dd>9<" in text and "furthest x</dt><dd>820<" in text


def test_a_run_that_has_hardly_begun_still_has_a_page() -> None:
    assert "none has ended yet" in page_of(History("young")).html()


def test_the_newest_videos_are_inside_the_page(tmp_path: Path) -> None:
    for step in (5, 90):
        path = tmp_path / "videos" / "eval" / "episode" / f"step_{step:09d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"film %d" % step)
    page = Page("run")
    add_videos(page, tmp_path)
    text = page.html()
    assert text.count("<video") == 1 and "at agent step 90" in text
    empty = Page("run")
    add_videos(empty, tmp_path / "nowhere")
    assert "Videos" not in empty.html()


def test_a_run_is_found_by_its_folder_or_as_the_newest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run in"):
        run_folder("latest", tmp_path)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("")
    import os

    os.utime(tmp_path / "old" / "metrics.jsonl", (1, 1))
    assert run_folder("latest", tmp_path) == (tmp_path / "new", None)
    assert run_folder(str(tmp_path / "old"), tmp_path) == (tmp_path / "old", None)
    with pytest.raises(CheckpointError):
        run_folder(str(tmp_path / "old" / "checkpoints" / "step_000000001"), tmp_path)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")


@pytest.fixture
def chromium() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    if not CHROMIUM or not DRIVER:
        pytest.skip("needs Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_the_page_loads_quietly_and_fits(
    tmp_path: Path, chromium: Any, width: int, scheme: str
) -> None:
    page = page_of(finished_run())
    page.figure(embed(death_chart([{"x_pos": 3161.0}]), "map"), "a whole level", is_wide=True)
    path = page.write(tmp_path / "report.html")
    feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chromium.get(path.as_uri())
    assert chromium.get_log("browser") == []
    messages = [json.loads(row["message"])["message"] for row in chromium.get_log("performance")]
    asked = [
        message["params"]["request"]["url"]
        for message in messages if message["method"] == "Network.requestWillBeSent"
    ]  # fmt: skip
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    wide = chromium.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width, "only figures scroll sideways"
    paper = chromium.execute_script("return getComputedStyle(document.body).backgroundColor")
    dark = sum(int(part) for part in paper[4:-1].split(",")) < 380
    assert dark == (scheme == "dark")
    for chart in chromium.execute_script(
        "return [...document.querySelectorAll('img.chart')].map(s => s.getBoundingClientRect())"
    ):
        assert chart["width"] > 250 and chart["height"] > 100
