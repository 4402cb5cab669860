from __future__ import annotations

import hashlib
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from mario_dreamer.training.checkpoint import CheckpointError, Checkpoints, find_run, read, verify


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
    facts = json.loads((path / "manifest.json").read_text())
    assert facts["step"] == 7
    assert set(facts["files"]) == {"agent.pt", "learning.pt", "config.yaml"}


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


@pytest.mark.parametrize("keep", [0, -1])
def test_keeping_none_is_refused(tmp_path: Path, keep: int) -> None:
    with pytest.raises(ValueError, match="keep_checkpoints must be at least 1"):
        Checkpoints(tmp_path, keep)


def test_a_kill_in_the_middle_leaves_the_older_one_and_no_rubbish_for_long(tmp_path: Path) -> None:
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


def forge(path: Path, name: str, data: bytes) -> None:
    """Put a file into a checkpoint and make the manifest agree with it."""
    (path / name).write_bytes(data)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][name] = {
        "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip
    (path / "manifest.json").write_text(json.dumps(manifest))


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_checkpoint_that_wants_to_run_something_is_refused(tmp_path: Path, zipped: bool) -> None:
    save(tmp_path, 1)
    path, trace = tmp_path / "step_000000001", tmp_path / "it-ran"
    data = pickle.dumps({"weight": Payload(trace)}, protocol=2)
    if zipped:  # as torch.save lays it out
        torch.save({"weight": torch.zeros(1)}, path / "real.pt")
        with zipfile.ZipFile(path / "real.pt") as real, zipfile.ZipFile(path / "x", "w") as forged:
            for item in real.namelist():
                body = data if item.endswith("data.pkl") else real.read(item)
                forged.writestr(item, body)
        data = (path / "x").read_bytes()
    forge(path, "agent.pt", data)
    assert verify(path) is None, "the sums agree: only the loader can refuse it"
    with pytest.raises(CheckpointError, match="agent.pt cannot be loaded"):
        read(path, "agent")
    assert not trace.exists()


def test_a_manifest_that_points_outside_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = tmp_path / "step_000000001"
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["../secret"] = {"bytes": 0, "sha256": ""}
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert "outside the folder" in str(verify(path))


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


@pytest.mark.parametrize("where", ["latest", "/no/such/run"])
def test_no_checkpoint_at_all_is_said_with_the_place(where: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"no whole checkpoint found for '{where}'"):
        find_run(where, tmp_path)


def test_whoever_goes_on_from_an_older_one_has_the_later_ones_put_aside(tmp_path: Path) -> None:
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


def test_whoever_goes_on_from_the_newest_has_nothing_moved(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 1, 2)
    assert checkpoints.go_on_from(tmp_path / "step_000000002") == []
    assert len(checkpoints.all()) == 2


def test_a_step_saved_twice_is_there_even_if_the_second_save_is_killed(
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


def test_latest_names_a_run_that_it_passes_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "old" / "checkpoints", 1)
    os.utime(tmp_path / "old" / "checkpoints", (1, 1))
    (tmp_path / "new" / "checkpoints").mkdir(parents=True)
    assert find_run("latest", tmp_path) == tmp_path / "old" / "checkpoints" / "step_000000001"
    assert f"{tmp_path / 'new'} holds no whole checkpoint" in caplog.text
