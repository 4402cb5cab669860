from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mario_dreamer.reporting.history import read_history
from mario_dreamer.reporting.run_sections import in_replay


def write(folder: Path, *rows: dict[str, Any], config: str = "seed: 3\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def episode(step: int, time: float, score: float = 1.0, x: float = 40.0) -> dict[str, Any]:
    shown = {"play/return": score, "play/length": 5.0, "play/x_max": x, "play/flag": 0.0}
    return {"step": step, "time": time, **shown}


def test_episodes_know_their_steps_frames_and_hours(tmp_path: Path) -> None:
    config = "seed: 3\nenv: {action_repeat: 4}\n"
    run = write(tmp_path, episode(10, 0.0), episode(20, 360.0), config=config)
    found = read_history(run).episodes
    assert [row["step"] for row in found] == [10, 20]
    assert [row["frames"] for row in found] == [40, 80]
    assert [row["hours"] for row in found] == [0.0, 0.1]


def test_a_pause_between_two_sessions_is_not_counted_as_work(tmp_path: Path) -> None:
    run = write(tmp_path, episode(10, 0.0), episode(20, 36.0), episode(30, 90_000.0))
    assert [row["hours"] for row in read_history(run).episodes] == [0.0, 0.01, 0.01]


def test_two_envs_that_end_at_one_step_are_two_episodes(tmp_path: Path) -> None:
    run = write(tmp_path, episode(10, 0.0, 1.0), episode(10, 0.0, 2.0))
    assert [row["return"] for row in read_history(run).episodes] == [1.0, 2.0]


def test_a_resume_replaces_what_was_played_after_the_checkpoint(tmp_path: Path) -> None:
    run = write(tmp_path, episode(10, 0.0, 1.0), episode(20, 1.0, 2.0), episode(15, 9.0, 3.0))
    assert [row["return"] for row in read_history(run).episodes] == [1.0, 3.0]


def test_half_a_line_is_passed_over_and_reports_are_curves(tmp_path: Path) -> None:
    run = write(
        tmp_path, {"step": 5, "time": 0.0, "kl": 2.5}, {"step": 6, "time": 1.0, "kl": "nan"}
    )
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "ti')
    history = read_history(run)
    steps, values = history.curve("kl")
    assert steps == [5, 6] and values[0] == 2.5 and values[1] != values[1]
    assert history.config["seed"] == 3 and history.last("train/kl") is None


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="name the folder of a run"):
        read_history(tmp_path)


def test_replay_holds_the_newest_episodes(tmp_path: Path) -> None:
    size = {"step": 30, "time": 3.0, "run/replay_size": 15.0}
    run = write(tmp_path, *(episode(10 * i, float(i)) for i in (1, 2, 3)), size)
    episodes, records = in_replay(read_history(run))
    assert [row["step"] for row in episodes] == [20, 30] and records == 15.0


@pytest.mark.parametrize(
    ("name", "text"),
    [("config.yaml", "env: {action_rep"), ("config.yaml", "- a"), ("config.yaml", "env: 3"),
     ("run.json", "[1]"), ("run.json", '{"status": "RUN'),
     ("metrics.jsonl", '{"step": "x", "kl": 1}\n{"step": 5, "kl": null, "time": 1}\n')],
)  # fmt: skip
def test_files_that_are_not_as_they_were_written_are_read_as_far_as_that_goes(
    name: str, text: str, tmp_path: Path
) -> None:
    run = write(tmp_path, {"step": 5, "time": 0.0, "kl": 2.5})
    (run / name).write_text(text)
    history = read_history(run)
    assert history.last("kl") == (None if name == "metrics.jsonl" else 2.5)
