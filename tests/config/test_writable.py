"""Places for results are tried before a run, on real folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mario_dreamer.config.combinations import check_writable


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A folder with a file, a folder, a dangling link and a loop of links."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


@pytest.mark.parametrize("name", ["folder", "new", "new/deep/er"])
def test_a_folder_that_can_be_written_is_accepted(places: Path, name: str) -> None:
    check_writable("runs_dir", places / name, is_folder=True)
    assert sorted(os.listdir(places)) == ["dangling", "file", "folder", "loop"]


@pytest.mark.parametrize("name", ["file", "folder/new.gif", "new/x.gif"])
def test_a_file_that_can_be_written_is_accepted(places: Path, name: str) -> None:
    check_writable("out", places / name)
    assert os.listdir(places / "folder") == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file", "a file is there"), ("file/run", "Not a directory"),
        ("dangling", "leads nowhere"), ("loop", "Too many levels"), ("loop/run", "Too many"),
        ("n" * 300, "File name too long"), ("bad\udcff", "not UTF-8"),
        ("/proc/runs", "No such file"), ("/dev/null/run", "Not a directory"),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_written_is_refused(places: Path, name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        check_writable("runs_dir", places / name, is_folder=True)
    assert "Choose another runs_dir" in str(error.value)


@pytest.mark.parametrize(
    ("name", "reason"), [("folder", "a folder is there"), ("dangling/x.gif", "No such file")]
)
def test_a_file_that_cannot_be_written_is_refused(places: Path, name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"out=.*{reason}"):
        check_writable("out", places / name)
