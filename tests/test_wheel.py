"""The wheel holds every sub-package and every configuration, and each command starts from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from wheel_build import ROOT, run_from, unpacked_wheel

from mario_dreamer.cli import COMMANDS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked_wheel(tmp_path_factory.mktemp("wheel"))


def files_below(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_every_file_of_the_package(site: Path) -> None:
    package = site / "mario_dreamer"
    assert files_below(ROOT / "mario_dreamer") - files_below(package) == set()
    assert files_below(ROOT / "configs") - files_below(package / "configs") == set()


def test_the_wheel_brings_nothing_else_to_the_top(site: Path) -> None:
    top = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"mario_dreamer"}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_starts_from_the_wheel(command: str, site: Path, tmp_path: Path) -> None:
    done = run_from(site, "-m", "mario_dreamer", command, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"mario-dreamer {command}" in done.stdout
    code = "import mario_dreamer as m, mario_dreamer.configs as c; print(m.__file__, *c.__path__)"
    found = run_from(site, "-c", code, cwd=tmp_path).stdout.split()
    assert len(found) == 2 and all(path.startswith(str(site)) for path in found)
