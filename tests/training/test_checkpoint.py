from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from mario_dreamer.training.checkpoint import Checkpoints, save_tensors
from mario_dreamer.training.checkpoint_files import CheckpointError, find_run, read, verify


def content(number: float) -> dict[str, dict]:
    return {
        "agent": {"weight": torch.full((50,), number)},
        "learning": {"agent_steps": int(number), "run_id": "r"},
    }


def save(folder: Path, *steps: int, keep: int = 5) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep)
    for step in steps:
        checkpoints.save(step, content(step), {"config.yaml": "a: 1\n"})
    return checkpoints


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    save(tmp_path, 7)
    path = tmp_path / "step_000000007"
    assert torch.equal(read(path, "agent")["weight"], torch.full((50,), 7.0))
    assert read(path, "learning") == {"agent_steps": 7, "run_id": "r"}
    assert (path / "config.yaml").read_text() == "a: 1\n"
    assert verify(path) is None
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["step"] == 7
    assert set(manifest["files"]) == {"agent.pt", "learning.pt", "config.yaml"}


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 1, 2, 3, 10, keep=2)
    assert [path.name for path in checkpoints.all()] == ["step_000000010", "step_000000003"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step_000000003", "step_000000010",
    ]  # fmt: skip


def test_a_step_saved_twice_is_the_second_one(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 5, keep=1)
    checkpoints.save(5, content(6.0))
    assert float(read(tmp_path / "step_000000005", "agent")["weight"][0]) == 6.0
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000005"]


def test_what_was_just_saved_is_never_thrown_away(tmp_path: Path) -> None:
    save(tmp_path, 900)
    flip_a_bit(tmp_path / "step_000000900" / "agent.pt")
    checkpoints = save(tmp_path, 100, keep=1)  # a resume from before the damaged one
    assert checkpoints.latest() == tmp_path / "step_000000100"


def test_a_kill_while_saving_keeps_the_older_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)
    half = tmp_path / ".tmp-999-2"
    half.mkdir()
    (half / "agent.pt").write_bytes(b"half")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() == tmp_path / "step_000000001"
    assert half.exists(), "whoever only looks must not remove what another process is writing"
    checkpoints.save(3, content(3.0))
    assert not half.exists()


def truncate(path: Path) -> None:
    with (path / "agent.pt").open("r+b") as file:
        file.truncate(100)


DAMAGES = {
    "truncated": (truncate, "agent.pt differs"),
    "bit flipped": (lambda path: flip_a_bit(path / "agent.pt"), "agent.pt differs"),
    "file gone": (lambda path: (path / "learning.pt").unlink(), "learning.pt is missing"),
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "manifest.json cannot be"),
    "manifest torn": (lambda path: (path / "manifest.json").write_text('{"st'), "cannot be read"),
    "manifest of another kind": (lambda path: (path / "manifest.json").write_text("[]"), "cannot"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_one_is_skipped_by_name(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = save(tmp_path, 1, 2)
    damage, reason = DAMAGES[kind]
    damage(tmp_path / "step_000000002")
    assert checkpoints.latest() == tmp_path / "step_000000001"
    assert "step_000000002" in caplog.text and reason in caplog.text


def test_reading_a_damaged_file_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = tmp_path / "step_000000001"
    flip_a_bit(path / "agent.pt")
    with pytest.raises(CheckpointError, match="damaged: agent.pt differs"):
        read(path, "agent")
    assert read(path, "learning")["agent_steps"] == 1, "the other file is whole"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with pytest.raises(CheckpointError, match="replay.pt is not there"):
        read(tmp_path / "step_000000001", "replay")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot make the checkpoint folder.*file"):
        Checkpoints(tmp_path / "file" / "checkpoints")


def test_a_save_that_fails_leaves_the_older_ones(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 1)
    with pytest.raises(CheckpointError, match="cannot save.*step_000000002.*untouched"):
        # a name in a folder that does not exist: the disk says no in the middle of a save
        checkpoints.save(2, {**content(2.0), "no/such": {}})
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000001"]
    assert checkpoints.latest() == tmp_path / "step_000000001"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_a_clear_error(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 1)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(CheckpointError, match="Permission denied"):
            checkpoints.save(2, content(2.0))
    finally:
        tmp_path.chmod(0o700)


def test_going_on_from_an_older_checkpoint_sets_later_ones_aside(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 1, 2, 3)
    flip_a_bit(tmp_path / "step_000000003" / "agent.pt")
    (tmp_path / ".tmp-9-4").mkdir()
    (tmp_path / "step_000000001" / "tmpxyz").mkdir()
    moved = checkpoints.go_on_from(tmp_path / "step_000000001")
    aside = tmp_path / "set_aside"
    assert moved == [aside / "step_000000003", aside / "step_000000002"]
    assert verify(aside / "step_000000002") is None
    assert not (tmp_path / "step_000000001" / "tmpxyz").exists()
    assert checkpoints.latest() == tmp_path / "step_000000001"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set_aside", "step_000000001"]
    assert find_run(str(tmp_path / "step_000000001"), tmp_path) == tmp_path / "step_000000001"
    checkpoints.save(2, content(5.0))
    assert checkpoints.latest() == tmp_path / "step_000000002"


def test_the_best_of_an_abandoned_branch_is_set_aside(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 1, 2)
    checkpoints.save_best(2, tmp_path / "step_000000002", {})
    assert checkpoints.go_on_from(tmp_path / "step_000000002") == []
    moved = checkpoints.go_on_from(tmp_path / "step_000000001")
    assert moved[-1] == tmp_path / "set_aside" / "best" and verify(moved[-1]) is None
    assert not (tmp_path / "best").exists()


def test_going_on_from_a_copy_by_another_name_is_going_on_from_its_step(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 1, 2)
    mine = tmp_path / "step_000000001_mine"
    shutil.copytree(tmp_path / "step_000000001", mine)
    assert checkpoints.go_on_from(mine) == [tmp_path / "set_aside" / "step_000000002"]
    assert checkpoints.latest() == tmp_path / "step_000000001"


def test_a_kill_while_the_best_one_is_replaced_keeps_it(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 1, 2)
    best = checkpoints.save_best(1, tmp_path / "step_000000001", {})
    best.rename(tmp_path / "best.old")  # where the kill came between two renames
    checkpoints.save(3, content(3.0))
    assert verify(best) is None and float(read(best, "agent")["weight"][0]) == 1.0


def test_whoever_goes_on_from_the_newest_has_nothing_moved(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 1, 2)
    assert checkpoints.go_on_from(tmp_path / "step_000000002") == []
    assert len(checkpoints.all()) == 2


def test_a_kill_in_a_second_save_of_a_step_keeps_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """As sudden as a kill can be in one process."""

    checkpoints = save(tmp_path, 5, keep=1)
    rename = os.replace

    def fatal(old: Path, new: Path) -> None:
        if Path(old).name.startswith(".tmp-"):
            raise Killed
        rename(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fatal)
        with pytest.raises(Killed):
            checkpoints.save(5, content(6.0))
    found = checkpoints.latest()
    assert found == tmp_path / "step_000000005.old"
    assert float(read(found, "agent")["weight"][0]) == 5.0
    checkpoints.save(5, content(7.0))
    assert float(read(checkpoints.latest(), "agent")["weight"][0]) == 7.0
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000005"]


def test_a_full_disk_raises_instead_of_ending_the_process() -> None:
    with pytest.raises(OSError, match="No space left"):
        save_tensors({"weight": torch.zeros(100_000)}, Path("/dev/full"))


def test_tensors_are_written_as_torch_writes_them(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    save_tensors({"a": shared, "b": [shared[0], 5]}, tmp_path / "a.pt")
    found = torch.load(tmp_path / "a.pt", weights_only=True)
    assert torch.equal(found["a"], shared) and found["b"][1] == 5
    assert found["b"][0].data_ptr() == found["a"].data_ptr(), "storages stay shared"


def test_pruning_leaves_folders_of_other_names_alone(tmp_path: Path) -> None:
    save(tmp_path, 1)
    others = ["step_000000001_best", "step_1", "mine", "step_000000001.backup"]
    for name in others:
        shutil.copytree(tmp_path / "step_000000001", tmp_path / name)
    (tmp_path / "step_000000002").symlink_to(tmp_path / "mine")
    save(tmp_path, 3, 4, keep=1)
    assert {path.name for path in tmp_path.iterdir()} == {*others, "step_000000002", "step_000000004"}
    assert (tmp_path / "mine" / "agent.pt").is_file()


def test_the_best_one_stays_when_newer_ones_replace_it(tmp_path: Path) -> None:
    checkpoints = save(tmp_path / "run" / "checkpoints", 5, keep=1)
    checkpoints.save_best(5, checkpoints.latest(), {"evaluation.json": '{"eval_return": 3.0}'})
    save(checkpoints.folder, 6, 7, keep=1)
    found = find_run("best", tmp_path)
    assert found == checkpoints.folder / "best" and verify(found) is None
    assert float(read(found, "agent")["weight"][0]) == 5.0
    assert json.loads((found / "evaluation.json").read_text()) == {"eval_return": 3.0}
    assert checkpoints.latest().name == "step_000000007"
    checkpoints.save_best(7, checkpoints.latest(), {})
    assert float(read(found, "agent")["weight"][0]) == 7.0
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["best", "step_000000007"]
