"""A run logs which commit, versions and machine it comes from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mario_dreamer.tracking.provenance import git_info, provenance
from mario_dreamer.tracking.system import system_metrics


def _git(folder: Path, *args: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_that_of_the_package_with_its_changes(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", "__init__.py")
    _git(tmp_path, "commit", "-q", "-m", "first")
    info = git_info(tmp_path)
    assert info["git.commit"] == _git(tmp_path, "rev-parse", "HEAD")
    assert info["git.dirty"] == "false"
    (tmp_path / "__init__.py").write_text("x = 1")
    assert git_info(tmp_path)["git.dirty"] == "true"


def test_a_copy_inside_another_repository_claims_no_commit(tmp_path: Path) -> None:
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "commit", "-q", "--allow-empty", "-m", "somebody else's")
    package = tmp_path / ".venv" / "mario_dreamer"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    assert git_info(package) == {}


def test_every_fact_is_a_text_with_something_in_it() -> None:
    info = provenance()
    assert {"version.torch", "version.torchrl", "machine.cpu", "machine.gpu", "command"} <= set(
        info
    )
    assert all(isinstance(value, str) for value in info.values())
    assert info["version.torch"][0].isdigit()


def test_system_metrics_are_documented_and_possible(tmp_path: Path) -> None:
    from mario_dreamer.tracking.metrics import undocumented

    found = system_metrics(tmp_path)
    assert undocumented(found) == []
    assert 0 < found["system/system_memory_usage_percentage"] <= 100
    assert found["system/process_memory_megabytes"] < 1e6
