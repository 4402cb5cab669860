"""The list of runs: what their files say, and who only claims to run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mario_dreamer.commands import runs as list_runs


def run(folder: Path, **shown) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(shown))
    return folder


def test_a_run_whose_process_is_gone_has_died(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()

    def status(name: str, **shown) -> str:
        return list_runs.summary_of(run(tmp_path / name, **shown))["status"]

    assert status("a", status="RUNNING", pid=gone.pid) == "DIED"
    assert status("b", status="RUNNING", pid=os.getpid()) == "RUNNING"
    elsewhere = {"machine.host": "another machine"}
    assert status("c", status="RUNNING", pid=gone.pid, tags=elsewhere) == "RUNNING"
    assert status("d", status="FINISHED", pid=gone.pid) == "FINISHED"
    assert status("e", status="RUNNING") == "RUNNING"


def test_the_newest_comes_first_and_steps_are_whole_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for age, name in ((100, "old"), (0, "new")):
        folder = run(tmp_path / name, status="FINISHED")
        line = {"run/agent_steps": 24512.0, "play/x_best": 2473.0}
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\nnot json\n")
        time = (folder / "run.json").stat().st_mtime - age
        os.utime(folder / "run.json", (time, time))
        (tmp_path / "old" / "report.html").touch()  # what is made of a run later makes it no newer
    monkeypatch.setattr(sys, "argv", ["runs", f"runs_dir={tmp_path}"])
    list_runs.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == ["name", "new", "old"]
    assert "24,512" in lines[1] and "2473" in lines[1]


def test_foreign_files_among_the_runs_hold_nothing_up(tmp_path: Path) -> None:
    folder = run(tmp_path / "a\x1b[2Jb", status="FINISHED\x1b]0;x\x07")
    (folder / "metrics.jsonl").symlink_to("/dev/zero")
    summary = list_runs.summary_of(folder)
    assert summary == {"name": "a?[2Jb", "status": "FINISHED?]0;x?"}
