"""benchmarks/bench_replay.py: each kind of storage is measured, and no other is taken."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import bench_replay


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call the script with words; return the rows that it prints."""
    for name, small in (("BATCH", 2), ("LENGTH", 4), ("CHUNK", 20)):
        monkeypatch.setattr(bench_replay, name, small)
    frames = torch.zeros(4, 20, 3, 64, 64, dtype=torch.uint8)
    monkeypatch.setattr(bench_replay, "images", lambda num_envs, steps: frames[:num_envs])

    def call(*words: str) -> list[dict]:
        monkeypatch.setattr(sys, "argv", ["bench_replay.py", "--json", "--repeats", "1", *words])
        bench_replay.main()
        return json.loads(capsys.readouterr().out)

    return call


def test_storages_in_memory_and_in_files_are_measured(measured, tmp_path: Path) -> None:
    rows = measured("--records", "80", "--only", "memory", "memmap", "--folder", str(tmp_path))
    kinds = [("ours", "memory"), ("stock SliceSampler", "memory"), ("ours", "memmap")]
    assert [(row["replay"], row["storage"]) for row in rows] == kinds
    assert all(row["ms_per_batch"] > 0 and row["bytes_per_record"] > 12_288 for row in rows)
    assert not list(tmp_path.iterdir())  # the files are gone again


def test_an_unknown_storage_is_refused(measured) -> None:
    with pytest.raises(SystemExit):
        measured("--records", "80", "--only", "memmapp")
