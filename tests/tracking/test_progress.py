"""Terminal output: one line per report, the live display, the time to go."""

from __future__ import annotations

import errno
import io
import itertools
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from mario_dreamer.tracking import run_stats
from mario_dreamer.tracking.progress import Progress
from mario_dreamer.tracking.run_stats import RunStats, arrow, duration

REPORT = {
    "run/agent_steps": 250,
    "run/frames": 1000,
    "run/updates": 12,
    "speed/fps": 240.4,
    "speed/updates_per_s": 3.0,
    "train/loss_recon": 31.2,
    "kl": 4.0,
    "run/memory_gib": 1.94,
}


def test_a_report_is_one_plain_line_with_all_numbers() -> None:
    stream = io.StringIO()
    progress = Progress(RunStats(1000), stream=stream)
    progress.stats.returns.extend([312.4, 640.0])
    progress.stats.episodes, progress.stats.flags, progress.stats.best_x = 2, 1, 3161.0
    progress.update(REPORT)
    progress.close()
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("step 250/1,000 (25%) | frames 1,000 | updates 12 | ")
    for part in (
        "episodes 2",
        "last 5 returns 312 640",
        "best x 3,161",
        "flags 1",
        "losses recon 31.2  kl 4",
        "memory 1.9 GiB",
        "to go",
    ):
        assert f" {part}" in line, (part, line)
    assert line.isascii()


def test_arrows_compare_with_the_report_before() -> None:
    stream = io.StringIO()
    progress = Progress(RunStats(1000), stream=stream)
    progress.update(REPORT)
    progress.update(REPORT | {"train/loss_recon": 20.0, "kl": 5.0})
    first, second = stream.getvalue().splitlines()
    assert "recon 31.2  kl 4 " in first
    assert "recon 20v  kl 5^ " in second


@pytest.mark.parametrize(
    ("now", "before", "sign"),
    [(2.0, 1.0, "^"), (1.0, 2.0, "v"), (1.0, 1.001, "="), (1.0, None, ""), (float("nan"), 1.0, "")],
)
def test_an_arrow_ignores_one_percent(now: float, before: float | None, sign: str) -> None:
    assert arrow(now, before) == sign


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The working time, for the test to move."""
    moment = [100.0]
    monkeypatch.setattr(run_stats, "work_seconds", lambda: moment[0])
    return moment


def test_the_time_to_go_counts_from_where_the_run_was_resumed(now: list[float]) -> None:
    stats = RunStats(1000, start_step=500)
    stats.move(500, 7)
    stats.move(500, 8)  # learning begins
    now[0] += 10
    stats.move(600, 30)
    assert stats.eta == pytest.approx(40.0)  # 100 steps in 10 s, 400 to go


def test_collecting_has_another_pace_than_learning(now: list[float]) -> None:
    stats = RunStats(1000, start_step=0, prefill=200)
    now[0] += 1
    stats.move(100, 0)
    assert duration(stats.eta) == "?" and stats.phase == "collecting 100/200"
    now[0] += 1
    stats.move(200, 1)
    now[0] += 10
    stats.move(210, 5)
    assert stats.phase == "learning"
    assert stats.eta == pytest.approx(790.0)  # a step a second
    assert stats.speed == "4 frames/s, 0.4 updates/s"


def test_the_display_may_read_while_the_run_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = itertools.count()
    monkeypatch.setattr(run_stats, "work_seconds", lambda: 3.0 * next(moments))
    stats = RunStats(10**6, start_step=0)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads take turns all the time
    try:
        with ThreadPoolExecutor(1) as display:
            asked = display.submit(lambda: [(stats.eta, stats.speed) for _ in range(2000)])
            while not asked.done():
                stats.move(stats.step + 1, stats.updates + 1)
            assert len(asked.result()) == 2000
    finally:
        sys.setswitchinterval(before)


def test_the_time_limit_bounds_the_time_to_go(now: list[float]) -> None:
    stats = RunStats(10**6, start_step=0, minutes=3)
    assert duration(stats.eta) == "0:03:00"
    now[0] += 60
    stats.move(100, 1)
    assert duration(stats.eta) == "0:02:00"


def test_the_share_never_rounds_up_to_a_hundred_percent() -> None:
    stats = RunStats(1000, start_step=0)
    stats.move(999, 0)
    assert stats.groups()["step"] == "999/1,000 (99%)"
    stats.move(1008, 0)  # the last batch of transitions goes beyond
    assert stats.groups()["step"] == "1,008/1,000 (100%)"


def test_what_takes_time_is_shown_with_its_seconds(now: list[float]) -> None:
    progress = Progress(RunStats(1000), stream=io.StringIO())
    progress.busy("saving")
    now[0] = progress.stats.busy[1] + 3
    assert progress.stats.phase == "saving 3 s"
    progress.busy(None)
    assert progress.stats.phase == "collecting"


def test_the_display_wraps_between_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = io.StringIO()
    with Progress(RunStats(1000), stream=stream, live=True) as progress:
        progress.update(REPORT)
    rows = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).splitlines()
    row = next(row for row in rows if row.startswith("step"))
    assert row.rstrip() == "step 250/1,000 (25%)   frames 1,000   updates 12"


def test_the_time_to_go_is_unknown_before_the_first_step() -> None:
    assert duration(RunStats(1000).eta) == "?"
    assert duration(59.6) == "0:01:00"


def test_the_display_shows_numbers_and_gives_the_terminal_back() -> None:
    stream = io.StringIO()
    with Progress(RunStats(1000), stream=stream, live=True) as progress:
        progress.update(REPORT)
        progress.note("checkpoint saved")
    shown = stream.getvalue()
    assert "250/1,000 (25%)" in shown
    assert "checkpoint saved" in shown
    assert shown.rstrip().endswith("\x1b[?25h"), "the cursor is visible again"


def test_a_closed_pipe_raises_nothing_and_is_noted() -> None:
    stream = io.StringIO()
    progress = Progress(RunStats(1000), stream=stream)
    stream.close()
    progress.update(REPORT)
    assert progress.closed


@pytest.mark.parametrize(("number", "closed"), [(errno.ENOSPC, False), (errno.EIO, True)])
def test_a_full_disk_under_the_output_does_not_end_the_run(number: int, closed: bool) -> None:
    class Refusing(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(number, "the stream refuses")

    progress = Progress(RunStats(1000), stream=Refusing())
    progress.update(REPORT)
    assert progress.closed == closed
