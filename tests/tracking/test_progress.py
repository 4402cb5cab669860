"""What the terminal shows: one line per report, a calm screen, the right time to go."""

from __future__ import annotations

import io
import sys

import pytest

from mario_dreamer.tracking.progress import Progress
from mario_dreamer.tracking.run_facts import Facts, arrow, duration

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


def test_a_report_is_one_plain_line_with_all_facts() -> None:
    stream = io.StringIO()
    progress = Progress(1000, stream=stream)
    progress.episode({"play/return": 312.4, "play/x_max": 434, "play/flag": False})
    progress.episode({"play/return": 640.0, "play/x_max": 3161, "play/flag": True})
    progress.update(REPORT)
    progress.close()
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("step 250/1,000 (25%) | frames 1,000 | updates 12 | ")
    for part in (
        "speed 240 frames/s, 3 updates/s",
        "episodes 2",
        "return 312 640",
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
    progress = Progress(1000, stream=stream)
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


def test_the_time_to_go_counts_from_where_the_run_was_resumed() -> None:
    facts = Facts(1000, start_step=500)
    began, step = facts._pace[0]
    facts._pace[0] = (began - 10.0, step)  # ten seconds ago
    facts.move(600)
    assert facts.eta == pytest.approx(40.0, rel=0.01)  # 100 steps in 10 s, 400 to go


def test_without_a_start_the_time_to_go_counts_from_the_first_report() -> None:
    facts = Facts(1000)
    facts.move(500)  # the first thing a resumed run says
    assert duration(facts.eta) == "?"
    began, step = facts._pace[0]
    facts._pace[0] = (began - 10.0, step)
    facts.move(600)
    assert facts.eta == pytest.approx(40.0, rel=0.01)


def test_the_time_to_go_is_unknown_before_the_first_step() -> None:
    assert duration(Facts(1000).eta) == "?"
    assert duration(59.6) == "0:01:00"


def test_a_tick_moves_the_bar_and_writes_nothing() -> None:
    stream = io.StringIO()
    progress = Progress(1000, stream=stream)
    progress.tick(400)
    assert stream.getvalue() == ""
    assert progress.facts.groups()["step"] == "400/1,000 (40%)"


def test_the_screen_shows_the_facts_and_gives_the_terminal_back() -> None:
    pytest.importorskip("rich")
    stream = io.StringIO()
    with Progress(1000, stream=stream, live=True) as progress:
        progress.update(REPORT)
        progress.note("checkpoint saved")
    shown = stream.getvalue()
    assert "250/1,000 (25%)" in shown
    assert "checkpoint saved" in shown
    assert "mario dreamer" in shown
    assert shown.rstrip().endswith("\x1b[?25h"), "the cursor is visible again"


def test_a_closed_pipe_does_not_stop_the_run() -> None:
    stream = io.StringIO()
    progress = Progress(1000, stream=stream)
    stream.close()
    progress.update(REPORT)


def test_without_rich_a_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("rich", "rich.console"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "mario_dreamer.tracking.screen", raising=False)
    stream = io.StringIO()
    progress = Progress(10, stream=stream, live=True)
    progress.update({"run/agent_steps": 5})
    assert stream.getvalue().startswith("step 5/10 (50%)")
