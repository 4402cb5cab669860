"""Checkpoints are found, verified and read; odd files next to them change nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from test_checkpoint import content, flip_a_bit, save, truncate

from mario_dreamer.training.checkpoint_files import (
    CheckpointError,
    find_run,
    read,
    steps_of,
    verify,
)


def test_latest_is_the_newest_whole_one_of_the_newest_run(tmp_path: Path) -> None:
    save(tmp_path / "old" / "checkpoints", 50)
    save(tmp_path / "new" / "checkpoints", 3, 4)
    os.utime(tmp_path / "old" / "checkpoints", (1, 1))
    assert find_run("latest", tmp_path) == tmp_path / "new/checkpoints/step_000000004"
    flip_a_bit(tmp_path / "new/checkpoints/step_000000004/agent.pt")
    assert find_run("latest", tmp_path) == tmp_path / "new/checkpoints/step_000000003"
    flip_a_bit(tmp_path / "new/checkpoints/step_000000003/agent.pt")
    assert find_run("latest", tmp_path) == tmp_path / "old/checkpoints/step_000000050"


def test_a_run_or_a_checkpoint_can_be_named(tmp_path: Path) -> None:
    save(tmp_path / "a" / "checkpoints", 1, 2)
    run, first = tmp_path / "a", tmp_path / "a/checkpoints/step_000000001"
    assert find_run(str(run), "elsewhere") == tmp_path / "a/checkpoints/step_000000002"
    assert find_run(str(first), "elsewhere") == first
    truncate(first)
    with pytest.raises(CheckpointError, match="step_000000001 is damaged"):
        find_run(str(first), "elsewhere")


def test_a_run_may_be_called_like_a_checkpoint(tmp_path: Path) -> None:
    save(tmp_path / "step_two" / "checkpoints", 1)
    found = find_run(str(tmp_path / "step_two"), "elsewhere")
    assert found == tmp_path / "step_two/checkpoints/step_000000001"


@pytest.mark.parametrize("where", ["latest", "/no/such/run"])
def test_no_checkpoint_at_all_is_said_with_the_place(where: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"no whole checkpoint found for '{where}'"):
        find_run(where, tmp_path)


def test_latest_names_a_run_that_it_passes_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "old" / "checkpoints", 1)
    os.utime(tmp_path / "old" / "checkpoints", (1, 1))
    (tmp_path / "new" / "checkpoints").mkdir(parents=True)
    assert find_run("latest", tmp_path) == tmp_path / "old" / "checkpoints" / "step_000000001"
    assert f"{tmp_path / 'new'} holds no whole checkpoint" in caplog.text


def test_odd_neighbours_do_not_hide_the_newest_whole_one(tmp_path: Path) -> None:
    checkpoints = save(tmp_path / "run" / "checkpoints", 1)
    folder = checkpoints.folder
    (folder / "step_000000002").write_text("a file")
    (folder / "step_000000003").symlink_to(tmp_path / "nowhere")
    (folder / "step_000000004").mkdir(mode=0)
    (folder / "step_soon").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "checkpoints").symlink_to(tmp_path / "nowhere")
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "checkpoints").write_text("a file")
    assert find_run("latest", tmp_path) == folder / "step_000000001"
    checkpoints.save(2, content(2.0))
    assert checkpoints.latest() == folder / "step_000000002"


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


MANIFESTS = {
    "a pipe": pipe,
    "a million brackets": lambda path: path.write_text("[" * 1_000_000),
    "brackets below the limit": lambda path: path.write_text("[" * 900_000),
    "hundreds of megabytes": lambda path: os.truncate(path, 500_000_000),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_that_is_none_is_refused_within_a_second(kind: str, tmp_path: Path) -> None:
    path = save(tmp_path / "run" / "checkpoints", 1).folder / "step_000000001"
    MANIFESTS[kind](path / "manifest.json")
    began = time.monotonic()
    assert "manifest.json" in verify(path) and steps_of(path) is None
    with pytest.raises(CheckpointError, match="damaged: manifest.json"):
        read(path, "agent")
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        find_run("latest", tmp_path)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("inside", "word"),
    [(".", "checkpoints"), (".", "."), ("checkpoints", "."), ("checkpoints", "step_000000001"),
     ("checkpoints/step_000000001", ".")],
)  # fmt: skip
def test_a_checkpoint_is_found_from_inside_its_run(
    inside: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "run" / "checkpoints", 1)
    monkeypatch.chdir(tmp_path / "run" / inside)
    found = find_run(word, "elsewhere")
    assert found == tmp_path / "run" / "checkpoints" / "step_000000001", "its run is its grandparent"
