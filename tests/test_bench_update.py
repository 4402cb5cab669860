"""benchmarks/bench_update.py: every part of an update is timed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import bench_update


def test_no_part_of_an_update_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = ["size=debug", "batch_size=2", "batch_length=4", "imag_horizon=3"]
    monkeypatch.setitem(bench_update.PRESETS, "laptop", tiny)
    row = bench_update.measure("laptop", "fp32", 1, 1)
    assert all(row[f"{part}_ms"] > 0 for part in bench_update.PARTS), row


def test_a_row_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "row.py").write_text("import sys\nsys.exit('this is why')\n")
    monkeypatch.setattr(bench_update, "__file__", str(tmp_path / "row.py"))
    monkeypatch.setattr(sys, "argv", ["bench_update.py", "--presets", "laptop", "--rounds", "1"])
    with pytest.raises(subprocess.CalledProcessError):
        bench_update.main()
    assert capfd.readouterr().err == "this is why\n"
