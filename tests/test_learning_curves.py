"""benchmarks/learning_curves.py and plot.py: from run folders to a figure with its caption."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import learning_curves
import plot


def make_run(folder: Path, seed: int, commit: str) -> Path:
    """A run of 30 episodes; the last ten reach the flag."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"seed: {seed}\nenv: {{action_repeat: 4}}\n")
    tags = {"git.commit": commit, "machine.cpu": "abacus", "command": "train experiment=laptop"}
    (folder / "run.json").write_text(json.dumps({"status": "FINISHED", "tags": tags}))
    rows = [
        {"step": 100 * i, "time": 36.0 * i, "play/return": float(i), "play/length": 9.0,
         "play/x_max": 10.0 * i, "play/flag": float(i >= 20)}
        for i in range(30)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results of two runs."""
    runs = [make_run(tmp_path / f"run-{seed}", seed, 40 * str(seed)) for seed in (1, 2)]
    typed = [str(run) for run in runs]
    monkeypatch.setattr(
        sys, "argv", ["learning_curves.py", *typed, "--out", "two", "--results", str(tmp_path)]
    )
    learning_curves.main()
    return tmp_path


def test_runs_are_looked_for_where_they_were_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_curves.subprocess, "run", lambda *_, **__: None)
    trained = learning_curves.train(["experiment=debug", "runs_dir=/big/disk"], [3], "a")
    assert trained == [Path("/big/disk/a-seed3")]
    assert learning_curves.train(["experiment=debug"], [3], "a") == [Path("runs/a-seed3")]


def test_several_runs_become_one_csv_with_steps_frames_and_hours(collected: Path) -> None:
    with (collected / "two.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60 and {row["seed"] for row in rows} == {"1", "2"}
    last = rows[-1]
    assert (last["run"], last["step"], last["frames"], last["hours"]) == (
        "run-2", "2900", "11600", "0.29",
    )  # fmt: skip
    assert list(plot.runs_of(rows)) == ["seed 1", "seed 2"]


def test_runs_of_one_seed_differ_by_stage_or_number() -> None:
    rows = [{"run": name, "seed": "0"} for name in ("a-4-1-2026", "b-1-2-2026", "a-4-1-2026")]
    assert {name: len(run) for name, run in plot.runs_of(rows).items()} == {
        "stage 4-1": 2, "stage 1-2": 1,
    }  # fmt: skip
    rows = [{"run": name, "seed": "0"} for name in ("a", "b")]
    assert list(plot.runs_of(rows)) == ["run 1, seed 0", "run 2, seed 0"]


def test_the_caption_says_command_commit_machine_and_date(collected: Path) -> None:
    shown = plot.caption("two", collected)
    assert "command: train experiment=laptop" in shown
    assert "commit: 111111111111; 222222222222" in shown
    assert "machine: abacus" in shown and "date: 20" in shown


def test_curves_are_drawn_into_a_picture(collected: Path) -> None:
    assert plot.curves("two", collected, collected).stat().st_size > 20_000


def test_a_table_is_read_from_the_folder_that_is_named(
    collected: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (collected / "small.csv").write_text("a,b\n1,2\n")
    monkeypatch.setattr(sys, "argv", ["plot.py", "table", "small", "--results", str(collected)])
    plot.main()
    assert capsys.readouterr().out == "| a | b |\n|---|---|\n| 1 | 2 |\n"


def test_the_map_below_deaths_is_of_the_stage_whatever_the_evaluation_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    episode = {"x_max": 780.0}
    found = {"stage": "1-1", "results": [{"name": "sampled-sticky", "episodes": [episode]}]}
    (tmp_path / "laptop_1-1_harsh_evaluation.json").write_text(json.dumps(found))
    flag = {"env": {"action_set": "right_only", "action_repeat": 2}, "actions": [1, 0]}
    (tmp_path / "laptop_1-1_flag.json").write_text(json.dumps(flag))
    drawn: list = []
    monkeypatch.setattr(plot, "map_of_buttons", lambda stage, buttons: (stage, buttons))
    monkeypatch.setattr(plot, "death_chart", lambda ends, level: drawn.append((ends, level)))
    monkeypatch.setattr(plot, "save", lambda figure, path: path)
    picture = plot.deaths("laptop_1-1_harsh", tmp_path, tmp_path)
    assert picture.name == "laptop_1-1_harsh_deaths.png"
    assert drawn == [([episode], ("1-1", [128, 128, 0, 0]))]  # right, then nothing
