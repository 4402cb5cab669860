"""Plain files outlive crashes, resumes and full disks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from mario_dreamer.tracking.append_only import AppendOnly
from mario_dreamer.tracking.atomic_file import atomic_file
from mario_dreamer.tracking.files import FileTracker, read_metrics
from mario_dreamer.tracking.tracker import NoTracker, Tracker
from mario_dreamer.tracking.trackers import Trackers, with_files


def test_a_resumed_run_appends_and_keeps_its_id(tmp_path: Path) -> None:
    with FileTracker(tmp_path) as first:
        first.log_metrics({"kl": 1.0}, 10)
    with FileTracker(tmp_path) as second:
        second.log_metrics({"kl": 2.0}, 20)
    assert second.run_id == first.run_id
    assert read_metrics(tmp_path)["kl"] == [(10, 1.0), (20, 2.0)]
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0] == "step,name,value,time"
    assert [line.rsplit(",", 1)[0] for line in lines if ",kl," in line] == [
        "10,kl,1.0",
        "20,kl,2.0",
    ]


def test_a_resumed_run_remembers_the_command_of_each_start(tmp_path: Path) -> None:
    for command in ("entropy 2e-3", "entropy 5e-4", "steps 300000"):
        with FileTracker(tmp_path) as tracker:
            tracker.log_tags({"command": command, "git.commit": "abc"})
    info = json.loads((tmp_path / "run.json").read_text())
    assert info["tags"]["command"] == "steps 300000"
    assert [start["tags"]["command"] for start in info["earlier"]] == [
        "entropy 2e-3",
        "entropy 5e-4",
    ]
    assert all(start["status"] == "FINISHED" for start in info["earlier"])


def test_a_run_that_went_back_replaces_its_later_points(tmp_path: Path) -> None:
    tracker = FileTracker(tmp_path)
    for step, value in ((10, 1.0), (20, 2.0), (30, 3.0), (20, 5.0), (40, 6.0)):
        tracker.log_metrics({"kl": value}, step)
    assert read_metrics(tmp_path)["kl"] == [(10, 1.0), (20, 5.0), (40, 6.0)]


def test_half_a_line_of_a_crash_is_cut_off(tmp_path: Path) -> None:
    with FileTracker(tmp_path) as tracker:
        tracker.log_metrics({"kl": 1.0}, 10)
    for name in ("metrics.jsonl", "metrics.csv"):
        with (tmp_path / name).open("a") as file:
            file.write('{"step": 20, "kl')
    with FileTracker(tmp_path) as tracker:
        tracker.log_metrics({"kl": 3.0}, 30)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 30]
    assert read_metrics(tmp_path)["kl"] == [(10, 1.0), (30, 3.0)]


def test_what_a_full_disk_refused_is_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = FileTracker(tmp_path, csv=False)
    path = tmp_path / "metrics.jsonl"
    path.mkdir()  # nothing can be written there now, for root neither
    tracker.log_metrics({"kl": 1.0}, 10)
    tracker.log_metrics({"kl": 2.0}, 20)
    assert len(caplog.records) == 1
    path.rmdir()
    tracker.close()
    assert read_metrics(tmp_path)["kl"] == [(10, 1.0), (20, 2.0)]


def test_a_file_that_was_removed_is_begun_again(tmp_path: Path) -> None:
    lines = AppendOnly(tmp_path / "lines")
    lines.append("one\n")
    lines.remove()
    lines.append("two\n")
    assert (tmp_path / "lines").read_text() == "two\n"


def test_of_lines_that_a_disk_took_in_part_none_is_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = AppendOnly(tmp_path / "lines")
    lines.append("one\n")
    opened = Path.open

    def full(path: Path, mode: str = "r", **options: Any) -> Any:
        file = opened(path, mode, **options)
        if mode == "ab":
            file.write(b"two\nthr")
            file.close()
            raise OSError("no space left")
        return file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(OSError, match="no space"):
            lines.append("two\nthree\n")
    lines.append("four\n")
    assert (tmp_path / "lines").read_text().split() == ["one", "two", "three", "four"]


def test_nan_and_infinity_stay_valid_json(tmp_path: Path) -> None:
    with FileTracker(tmp_path) as tracker:
        tracker.log_metrics({"kl": float("nan"), "model_loss": float("inf")}, 1)
    text = (tmp_path / "metrics.jsonl").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    curves = read_metrics(tmp_path)
    assert math.isnan(curves["kl"][0][1])
    assert curves["model_loss"] == [(1, math.inf)]


def test_run_json_tells_the_status(tmp_path: Path) -> None:
    tracker = FileTracker(tmp_path, run_name="first")
    tracker.log_tags({"git.commit": "abc"})
    tracker.log_hparams({"a": {"b": 1}})
    info = json.loads((tmp_path / "run.json").read_text())
    assert (info["status"], info["name"], info["tags"]) == (
        "RUNNING",
        "first",
        {"git.commit": "abc"},
    )
    tracker.close("KILLED")
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "KILLED"
    assert json.loads((tmp_path / "params.json").read_text()) == {"a.b": "1"}


def test_foreign_files_are_copied_and_own_ones_are_not(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    tracker = FileTracker(tmp_path / "run")
    tracker.log_artifact(tmp_path / "notes.txt", "texts")
    tracker.log_artifact(tmp_path / "run" / "run.json")
    copies = [path for path in (tmp_path / "run" / "artifacts").rglob("*") if path.is_file()]
    assert copies == [tmp_path / "run" / "artifacts" / "texts" / "notes.txt"]


def test_images_and_videos_lie_in_the_runs_folder(tmp_path: Path) -> None:
    tracker = FileTracker(tmp_path)
    tracker.log_image("dream/strip", torch.zeros(3, 8, 8, dtype=torch.uint8), 5)
    tracker.log_video("dream/open_loop", torch.zeros(2, 3, 8, 8, dtype=torch.uint8), 5)
    assert (tmp_path / "images/dream/strip/step_000000005.png").is_file()
    assert (tmp_path / "videos/dream/open_loop/step_000000005.mp4").is_file()


def test_every_run_leaves_metrics_jsonl_whatever_the_tracker(tmp_path: Path) -> None:
    none = with_files(NoTracker(tmp_path / "none"))
    assert isinstance(none, FileTracker)
    own = with_files(Tracker(tmp_path / "own", run_id="mine"))
    assert isinstance(own, Trackers)
    assert own.run_id == "mine"
    files = FileTracker(tmp_path / "csv")
    assert with_files(files) is files
    for tracker in (none, own, files):
        tracker.log_metrics({"kl": 1.0}, 1)
        tracker.close()
        assert read_metrics(tracker.folder)["kl"] == [(1, 1.0)]
    assert not (tmp_path / "none" / "metrics.csv").exists()


def test_truncate_after_drops_later_lines_and_unfinished_files(tmp_path: Path) -> None:
    with FileTracker(tmp_path) as first:
        for step in (10, 20, 20, 30):
            first.log_metrics({"kl": float(step)}, step)
    for name in ("metrics.jsonl", "metrics.csv"):
        with (tmp_path / name).open("a") as file:
            file.write('{"step": 2')  # the last words of a killed process
    (tmp_path / "videos/eval").mkdir(parents=True)
    killed = [atomic_file(tmp_path / name) for name in ("videos/eval/step_020.mp4", "run.json")]
    for writing in killed:
        writing.__enter__().write_text("half")
    second = FileTracker(tmp_path)
    second.truncate_after(20)
    second.log_metrics({"kl": 3.0}, 30)
    second.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["kl"]) for row in rows] == [(10, 10), (20, 20), (20, 20), (30, 3)]
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0] == "step,name,value,time"
    assert [line.split(",")[0] for line in lines if ",kl," in line] == ["10", "20", "20", "30"]
    assert [path.name for path in tmp_path.rglob(".*")] == []


def test_a_run_without_metrics_goes_back_to_nothing(tmp_path: Path) -> None:
    tracker = FileTracker(tmp_path)
    tracker.truncate_after(0)
    tracker.log_metrics({"kl": 1.0}, 1)
    tracker.truncate_after(0)
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    assert (tmp_path / "metrics.csv").read_text() == "step,name,value,time\n"
