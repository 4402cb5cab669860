"""README.md tells the truth: its tree, its metrics, its examples."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()


def block(first_line: str) -> str:
    """The code block that begins with a line."""
    found = re.search(rf"```\w+\n({re.escape(first_line)}\n.*?)```", TEXT, re.DOTALL)
    assert found, f"README.md has no block beginning with {first_line!r}"
    return found.group(1)


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = f"{cwd}{os.pathsep}{ROOT}"
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


def test_the_tree_and_the_metric_table_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    readme = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readme)
    assert readme.fill(TEXT) == TEXT, "run: python benchmarks/readme.py"


def test_every_linked_or_indexed_file_exists() -> None:
    links = re.findall(r"\]\(((?:mario_dreamer|configs|benchmarks)[^)]*)\)", TEXT)
    index = re.findall(
        r"`((?:\w+/)*\w+\.py)`", TEXT.split("## Where is")[1].split("## The tree")[0]
    )
    paths = [ROOT / link for link in links] + [ROOT / "mario_dreamer" / name for name in index]
    assert len(paths) > 20
    missing = [str(path) for path in paths if not path.exists()]
    assert not missing


def test_the_foreign_project_trains_with_our_loss(tmp_path: Path) -> None:
    code = block("# foreign.py")
    (tmp_path / "foreign.py").write_text(code)
    result = run(sys.executable, "foreign.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "loss_dyn" in result.stdout
    assert len([line for line in code.splitlines() if line.strip()]) <= 45


def test_a_part_of_the_users_own_swaps_in(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(block("# mine.py"))
    (tmp_path / "my_configs" / "encoder").mkdir(parents=True)
    (tmp_path / "my_configs/encoder/tiny.yaml").write_text(block("# my_configs/encoder/tiny.yaml"))
    search = f"hydra.searchpath=[file://{tmp_path}/my_configs]"
    options = ["experiment=debug", "encoder=tiny", search, "steps=300", "tracker=csv", "threads=1"]
    options += ["eval_every=0", "save_every=0", "name=mine", "train_ratio=4"]
    result = run(sys.executable, "-m", "mario_dreamer.commands.train", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "mine.TinyEncoder" in (tmp_path / "runs/mine/config.yaml").read_text()
    # A stored configuration that builds foreign classes asks for trust, then goes on.
    again = [sys.executable, "-m", "mario_dreamer.commands.train", "resume=runs/mine", "steps=320"]
    refused = run(*again, cwd=tmp_path)
    assert refused.returncode == 1 and "trust_config=true" in refused.stderr
    assert run(*again, "trust_config=true", cwd=tmp_path).returncode == 0


SLOW = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("evaluate", "play", "dream", "replay")
]


@pytest.mark.parametrize("command", ["train", "runs", *SLOW])
def test_help_is_for_people(command: str, tmp_path: Path) -> None:
    result = run(sys.executable, "-m", "mario_dreamer.cli", command, "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stdout.startswith(f"mario-dreamer {command}")
