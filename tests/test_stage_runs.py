"""benchmarks/stages.py: commands, tables, going on after a kill; how any script ends."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import stages
from run_script import run_script


def write_evaluation(folder: Path, flags: int) -> None:
    """An evaluation of ten episodes, so many of them with the flag."""
    episodes = [{"flag": 1.0, "x_max": 3161.0, "terminated": 1.0}] * flags
    episodes += [{"flag": 0.0, "x_max": 780.0, "terminated": 1.0}] * (10 - flags)
    summary = {"flag_rate": flags / 10, "flag_low": 0.1, "flag_high": 0.9, "episodes": 10.0}
    summary["x_max"] = sum(e["x_max"] for e in episodes) / 10
    results = [
        {"name": name, "summary": summary, "episodes": episodes} for name in stages.CONDITIONS
    ]
    (folder / "evaluation").mkdir(parents=True)
    text = json.dumps({"agent_steps": 100_000, "results": results})
    (folder / "evaluation" / "results.json").write_text(text)


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "stage_1-3"
    begin = stages.train_command("1-3", folder, ["steps=100", "seed=2"])
    assert "env.stage=1-3" in begin and "seed=2" in begin
    (folder / "checkpoints" / "step_000000050").mkdir(parents=True)
    assert stages.train_command("1-3", folder, ["steps=100", "seed=2"])[-2:] == [
        f"resume={folder}", "steps=100",
    ]  # fmt: skip


def test_the_row_of_a_stage_tells_rate_and_wall(tmp_path: Path) -> None:
    write_evaluation(tmp_path, flags=6)
    row = stages.row_of("1-3", tmp_path, "sampled-flag-0.json")
    assert row["sampled"] == "60 (10 to 90)"
    assert row["mean_x"] == 2209  # (6 * 3161 + 4 * 780) / 10
    assert row["wall"] == "x 768 to 800, 100 % of the failures, died there"


def test_a_stage_that_is_done_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "stage_1-1"
    folder.mkdir()
    (folder / "row.json").write_text('{"stage": "1-1"}')
    monkeypatch.setattr(stages.subprocess, "run", None)  # a call would raise
    assert stages.work("1-1", Namespace(runs=tmp_path)) == {"stage": "1-1"}


def test_a_stage_that_failed_is_named_in_the_exit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(stage: str, args: Namespace) -> dict:
        if stage == "1-2":
            raise OSError("no disk")
        return {"stage": stage} | dict.fromkeys(stages.COLUMNS[1:], "")

    monkeypatch.setattr(stages, "work", work)
    monkeypatch.setattr(stages, "write", lambda rows, out: (tmp_path / out).write_text(str(rows)))
    monkeypatch.setattr(sys, "argv", ["stages.py", "1-1", "1-2", "1-3", "--out", "table"])
    with pytest.raises(SystemExit, match=r"^error: 1-2 failed. The same command goes on"):
        run_script(stages.main)
    assert "1-1" in (tmp_path / "table").read_text() and "1-3" in (tmp_path / "table").read_text()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("too few"), "error: too few"),
        (FileNotFoundError(2, "No such file", "a.csv"), "error: a.csv: No such file"),
        (subprocess.CalledProcessError(1, "pip"), "error: Command 'pip' returned"),
    ],
)
def test_what_a_script_cannot_use_is_one_line(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def main() -> None:
        raise error

    monkeypatch.delenv("MARIO_DREAMER_TRACEBACK", raising=False)
    with pytest.raises(SystemExit, match=f"^{line}"):
        run_script(main)
    monkeypatch.setenv("MARIO_DREAMER_TRACEBACK", "1")
    with pytest.raises(type(error)):
        run_script(main)


def test_every_script_is_run_that_way() -> None:
    texts = {path.name: path.read_text() for path in BENCHMARKS.glob("*.py")}
    scripts = {name for name, text in texts.items() if '__name__ == "__main__"' in text}
    assert {name for name in scripts if "\n    run_script(main" in texts[name]} == scripts != set()
