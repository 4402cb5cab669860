"""Training is killed with SIGKILL, resumed and compared with an unbroken run; see kills.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["toy", pytest.param("mario", marks=pytest.mark.rom)])
def test_a_run_killed_repeatedly_ends_like_an_unbroken_one(
    variant: str, tmp_path: Path
) -> None:
    pytest.importorskip("mlflow")
    words = ["--kills", "4", "--variants", variant, "--folder", str(tmp_path), "--seed", "3"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "kills.py"), *words],
        capture_output=True, text=True, timeout=1500, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "1 runs, 0 things wrong" in done.stdout
