"""benchmarks/soak.py: what it sees of a process, and what it leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import soak


def test_a_run_is_watched_and_an_ended_one_leaves_the_last_watch_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(soak, "RESULTS", tmp_path)
    row = '{"step": 40, "run/updates": 8, "run/replay_size": 36}\n'
    (tmp_path / "metrics.jsonl").write_text(row)
    (tmp_path / "lock.pid").write_text(str(os.getpid()))
    typed = ["soak.py", str(tmp_path), "--minutes", "0.005", "--every", "0.05", "--out", "seen"]
    monkeypatch.setattr(sys, "argv", typed)
    soak.main()
    seen = (tmp_path / "seen.csv").read_text()
    assert seen.splitlines()[1].endswith(",40,8,36") and (tmp_path / "seen.md").is_file()
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / "lock.pid").write_text(str(ended.pid))
    with pytest.raises(SystemExit):
        soak.main()
    assert "has ended; --report" in capsys.readouterr().err
    assert (tmp_path / "seen.csv").read_text() == seen
