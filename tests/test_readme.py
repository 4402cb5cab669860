"""README.md: its length, its links, its examples."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "benchmarks/README.md", "configs/README.md", "tests/README.md")
EXAMPLES = sorted((ROOT / "tests" / "examples").glob("*.py"))


def block(page: str, first_line: str) -> str:
    """The code block of a page that begins with a line."""
    text = (ROOT / page).read_text()
    found = re.search(rf"```\w+\n({re.escape(first_line)}\n.*?)```", text, re.DOTALL)
    assert found, f"{page} has no block beginning with {first_line!r}"
    return found.group(1)


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = f"{cwd}{os.pathsep}{ROOT}"
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


def test_readme_is_read_in_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ")).lower().replace(" ", "-")
        for line in text.splitlines() if line.startswith("#")
    }  # fmt: skip
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, heading = link.partition("#")
        if "://" in link:
            continue
        if path and not ((ROOT / page).parent / path).exists():
            broken.append(link)
        if not path and heading not in headings:
            broken.append(link)
    assert broken == []


def test_the_loss_of_the_readme_gives_gradients() -> None:
    code = block("README.md", "import torch")
    assert len(code.splitlines()) <= 15
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert all(p.grad.abs().sum() > 0 for p in names["actor"].parameters())


@pytest.mark.slow
def test_the_shipped_agent_plays_from_python(tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(block("README.md", "import mario_dreamer"))
    result = run(sys.executable, "snippet.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "torch.Size" in result.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_a_foreign_project_trains_with_our_losses(
    example: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert len(example.read_text().splitlines()) <= 60
    monkeypatch.syspath_prepend(str(example.parent))
    runpy.run_path(str(example), run_name="__main__")
    printed = capsys.readouterr().out
    assert "loss_" in printed and "nan" not in printed


@pytest.mark.slow
def test_a_part_of_the_users_own_swaps_in(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(block("configs/README.md", "# mine.py"))
    (tmp_path / "my_configs" / "encoder").mkdir(parents=True)
    tiny = block("configs/README.md", "# my_configs/encoder/tiny.yaml")
    (tmp_path / "my_configs/encoder/tiny.yaml").write_text(tiny)
    search = f"hydra.searchpath=[file://{tmp_path}/my_configs]"
    options = ["experiment=debug", "encoder=tiny", search, "steps=300", "tracker=csv", "threads=1"]
    options += ["eval_every=0", "save_every=0", "name=mine", "train_ratio=4"]
    command = [sys.executable, "-m", "mario_dreamer", "train"]
    result = run(*command, *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "mine.TinyEncoder" in (tmp_path / "runs/mine/config.yaml").read_text()
    # A stored configuration that builds foreign classes asks for trust, then goes on.
    again = [*command, "resume=runs/mine", "steps=320"]
    refused = run(*again, cwd=tmp_path)
    assert refused.returncode == 1 and "trust_config=true" in refused.stderr
    assert run(*again, "trust_config=true", cwd=tmp_path).returncode == 0
