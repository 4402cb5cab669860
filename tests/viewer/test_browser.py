"""The page in a real headless Chromium; run with -m slow."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
selenium = pytest.importorskip("selenium", reason="needs pip install 'mario_dreamer[test-browser]'")
if not CHROMIUM or not DRIVER:
    pytest.skip("needs Debian's chromium and chromium-driver", allow_module_level=True)

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait


class Server:
    """The command in a process of its own."""

    def __init__(self, runs: Path, *words: str) -> None:
        call = [sys.executable, "-m", "mario_dreamer", "view", *words, f"runs_dir={runs}"]
        self.process = subprocess.Popen(
            call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=runs
        )
        said = ""
        while "open http" not in said:
            line = self.process.stdout.readline()
            assert line, f"the server ended: {said}"
            said += line
        self.url = re.search(r"open (http\S+)", said).group(1)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[Server]:
    env = OmegaConf.to_container(OmegaConf.load(next(runs.glob("tiny/*/*/config.yaml"))).env)
    file = runs / "evaluation" / "sampled-best-0.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"env": env, "actions": [2, 2, 1, 2, 2, 2], "stats": {}}))
    server = Server(runs, str(runs / "tiny"), "port=0", "max_pages=3", f"recording={file}")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    browser.set_window_size(1200, 900)
    yield browser
    browser.quit()


@pytest.fixture
def page(chromium: webdriver.Chrome, server: Server) -> webdriver.Chrome:
    """The page, showing frames, with an empty console."""
    chromium.get_log("browser")
    chromium.get(server.url)
    until(lambda: frames(chromium) > 2)
    return chromium


def until(true: Callable[[], Any], seconds: float = 20) -> None:
    """Wait for something to be so; the page may replace an element while it is asked."""
    WebDriverWait(None, seconds, 0.05, [StaleElementReferenceException]).until(lambda _: true())


def frames(browser: webdriver.Chrome) -> int:
    return int(browser.find_element(By.CSS_SELECTOR, ".lane").get_attribute("data-frames") or 0)


def picture(browser: webdriver.Chrome, name: str) -> str:
    return browser.execute_script(
        f"return document.querySelector('.{name} canvas').toDataURL()"
    )  # fmt: skip


def border(browser: webdriver.Chrome) -> list[int]:
    frame = browser.find_element(By.CSS_SELECTOR, ".decoded .frame")
    return [int(n) for n in re.findall(r"\d+", frame.value_of_css_property("border-left-color"))]


def text(browser: webdriver.Chrome, selector: str) -> str:
    return browser.find_element(By.CSS_SELECTOR, selector).text


def taken(browser: webdriver.Chrome) -> str:
    rows = browser.find_elements(By.CSS_SELECTOR, ".actions li.taken > :first-child")
    return rows[0].text if rows else ""


def press(browser: webdriver.Chrome, key: str) -> None:
    ActionChains(browser).send_keys(key).perform()


def test_the_page_loads_without_errors_and_its_frames_change(page: webdriver.Chrome) -> None:
    seen = {picture(page, "screen")}
    until(lambda: seen.add(picture(page, "screen")) or len(seen) >= 3)
    assert text(page, "#status") == "live" and text(page, ".decoded b") == "Reconstruction"
    assert [row.text for row in page.find_elements(By.CSS_SELECTOR, ".actions li > :first-child")] \
        == ["noop", "left", "right"]  # fmt: skip
    assert page.get_log("browser") == []
    page.execute_script("document.querySelector('#rate').focus()")
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_space_goes_open_loop_and_the_border_turns_red(page: webdriver.Chrome) -> None:
    red, green, _ = border(page)[:3]
    assert green > 2 * red
    press(page, " ")
    until(lambda: "without a frame" in text(page, ".decoded figcaption span"))
    until(lambda: border(page)[0] > 2 * border(page)[1])
    press(page, " ")
    until(lambda: text(page, ".decoded figcaption span") == "posterior")


def test_pause_stops_time_and_step_moves_it_by_one(page: webdriver.Chrome) -> None:
    press(page, "p")
    until(lambda: page.find_element(By.ID, "pause").get_attribute("aria-pressed") == "true")
    time.sleep(0.7)
    before = frames(page)
    time.sleep(0.7)
    assert frames(page) == before
    assert text(page, "#status") == "paused"
    press(page, "n")
    until(lambda: frames(page) == before + 1)


def test_arrow_keys_steer_the_dream_and_leaving_shows_the_game(page: webdriver.Chrome) -> None:
    page.find_element(By.ID, "tab-dream").click()
    until(lambda: text(page, ".decoded b") == "Dream")
    before = picture(page, "decoded")
    time.sleep(0.5)
    assert picture(page, "decoded") == before  # it waits for the first key
    cover = page.find_element(By.CSS_SELECTOR, ".cover")
    assert cover.is_displayed()
    able = page.find_elements(By.CSS_SELECTOR, ".pad [data-button]:not(:disabled)")
    assert [button.get_attribute("data-button") for button in able] == ["left", "right"]
    ActionChains(page).key_down(Keys.ARROW_RIGHT).perform()
    until(lambda: taken(page) == "right")
    until(lambda: picture(page, "decoded") != before)
    ActionChains(page).key_up(Keys.ARROW_RIGHT).perform()
    until(lambda: taken(page) == "noop")
    press(page, "w")
    until(lambda: not cover.is_displayed())
    press(page, Keys.BACKSPACE)
    until(lambda: text(page, ".decoded figcaption span") == "0 steps since the last real frame")
    assert picture(page, "decoded") == before  # the same real moment again
    button = page.find_element(By.CSS_SELECTOR, "[data-button=left]")
    ActionChains(page).click_and_hold(button).perform()
    until(lambda: taken(page) == "left")
    ActionChains(page).release().perform()
    press(page, Keys.ESCAPE)
    until(lambda: text(page, ".decoded b") == "Reconstruction")
    assert page.get_log("browser") == []


def test_a_dream_begins_at_a_step_of_a_recorded_episode(page: webdriver.Chrome) -> None:
    page.find_element(By.ID, "tab-dream").click()
    until(lambda: text(page, ".decoded b") == "Dream")
    choice = Select(page.find_element(By.ID, "from"))
    choice.select_by_visible_text("sampled-best-0 (evaluation)")
    shown = "//dt[text()='agent step']/following-sibling::dd"
    until(lambda: page.find_element(By.XPATH, shown).text == "3")  # the middle of six
    slider = page.find_element(By.ID, "at")
    slider.send_keys(Keys.ARROW_LEFT)
    until(lambda: page.find_element(By.XPATH, shown).text == "2")
    assert text(page, "#at-shown") == "step 2 of 6"
    ActionChains(page).key_down(Keys.ARROW_RIGHT).perform()
    until(lambda: taken(page) == "right")
    ActionChains(page).key_up(Keys.ARROW_RIGHT).perform()
    assert page.get_log("browser") == []


def test_comparing_shows_two_agents_in_step(page: webdriver.Chrome) -> None:
    page.find_element(By.ID, "tab-compare").click()
    until(lambda: len(page.find_elements(By.CSS_SELECTOR, ".lane")) == 2)

    def times() -> list[str]:
        page.find_element(By.ID, "pause").click()
        time.sleep(0.8)
        shown = page.find_elements(By.XPATH, "//dt[text()='agent step']/following-sibling::dd")
        said = [element.text for element in shown]
        page.find_element(By.ID, "pause").click()
        return said

    time.sleep(2)
    said = times()
    assert len(said) == 2 and said[0] == said[1]
    page.find_element(By.ID, "tab-watch").click()
    until(lambda: len(page.find_elements(By.CSS_SELECTOR, ".lane")) == 1)
    before = frames(page)
    until(lambda: frames(page) > before + 2)


def test_two_tabs_work_and_a_third_page_is_refused(
    page: webdriver.Chrome, server: Server
) -> None:
    first = page.current_window_handle
    for _ in range(2):
        page.switch_to.new_window("tab")
        page.get(server.url)
        until(lambda: frames(page) > 2)
    page.switch_to.new_window("tab")
    page.get(server.url)
    until(lambda: "3 pages are being served already" in text(page, "#notice"))
    others = [handle for handle in page.window_handles if handle != first]
    page.switch_to.window(others[0])
    before = frames(page)
    until(lambda: frames(page) > before + 2)
    page.close()
    page.switch_to.window(others[2])  # now there is room
    page.find_element(By.ID, "notice-action").click()
    until(lambda: frames(page) > 2)
    page.close()
    page.switch_to.window(others[1])
    page.close()
    page.switch_to.window(first)
    until(lambda: frames(page) > 2)


def test_a_dead_server_is_shown_and_a_new_one_is_found(page: webdriver.Chrome, runs: Path) -> None:
    mortal = Server(runs, str(runs / "tiny"), "port=0")
    page.get(mortal.url)
    until(lambda: frames(page) > 2)
    mortal.stop()
    until(lambda: "connection lost" in text(page, "#status"))
    assert page.find_element(By.ID, "stage").get_attribute("data-state") == "lost"
    before = frames(page)
    port = mortal.url.rsplit(":", 1)[1].strip("/")
    again = Server(runs, str(runs / "tiny"), f"port={port}")
    try:
        assert again.url == mortal.url
        until(lambda: text(page, "#status") == "live" and frames(page) > before + 2, 40)
    finally:
        again.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["watch", "dream", "compare"])
def test_a_phone_shows_everything_without_scrolling_sideways(
    page: webdriver.Chrome, scheme: str, view: str
) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    try:
        page.find_element(By.ID, f"tab-{view}").click()
        time.sleep(0.5)
        folded = page.execute_script(
            "const [s, f] = [document.querySelector('#settings'), document.querySelector('.frames')];"
            "return f.getBoundingClientRect().top < s.getBoundingClientRect().top"
        )
        assert folded, "pictures come before the settings"
        widths = page.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= 390 and widths[1] <= 390
        ground = page.execute_script("return getComputedStyle(document.documentElement).background")
        red = int(re.search(r"\d+", ground).group())
        assert red > 200 if scheme == "light" else red < 60
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
