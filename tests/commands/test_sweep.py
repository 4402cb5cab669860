from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mario_dreamer.commands import _sweep
from mario_dreamer.config.command_line import checked_words
from mario_dreamer.config.compose import compose_default

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def leave_run(folder: Path, config: str, status: str | None) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config)
    if status is not None:
        (folder / "run.json").write_text(json.dumps({"status": status}))
    return folder


def test_a_finished_job_of_a_sweep_is_found_by_its_configuration(tmp_path: Path) -> None:
    leave_run(tmp_path / "a", "seed: 0\n", "FINISHED")
    found = leave_run(tmp_path / "b", "seed: 1\n", "FINISHED")
    assert _sweep.finished_before("seed: 1\n", tmp_path) == found
    assert _sweep.finished_before("seed: 2\n", tmp_path) is None


@pytest.mark.parametrize("status", ["KILLED", "FAILED", "RUNNING", None])
def test_a_job_that_did_not_finish_runs_again(status: str | None, tmp_path: Path) -> None:
    leave_run(tmp_path / "a", "seed: 0\n", status)
    assert _sweep.finished_before("seed: 0\n", tmp_path) is None


def test_a_run_folder_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    (leave_run(tmp_path / "a", "seed: 0\n", None) / "run.json").write_text("{")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.yaml").write_bytes(b"\xff\xfe")
    assert _sweep.finished_before("seed: 0\n", tmp_path) is None


def test_the_laptop_search_names_existing_options() -> None:
    search = OmegaConf.load(CONFIGS / "hydra" / "sweeper" / "laptop_search.yaml")
    cfg = compose_default(["experiment=laptop"])
    lost = [name for name in search.params if OmegaConf.select(cfg, name) is None]
    assert len(search.params) > 3 and lost == []


def test_an_interval_is_checked_by_its_lower_end() -> None:
    typed = ["-m", "train_ratio=tag(log,interval(8,64))"]
    assert checked_words("train", typed)[-1] == typed[-1]
    with pytest.raises(ValueError, match="train_ratio must be"):
        checked_words("train", ["-m", "train_ratio=interval(-1,64)"])


def test_a_sweep_under_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="torchrun starts one run; type torchrun once for each job"):
        checked_words("train", ["-m", "seed=0,1"])


def test_a_skipped_job_returns_what_the_finished_run_reached(tmp_path: Path) -> None:
    rows = [{"step": 8, "play/return_mean": 0.25}, {"step": 16, "play/return_mean": 0.75}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert _sweep.last_return(tmp_path) == 0.75, "a sweeper such as Optuna needs a number"
    assert _sweep.last_return(tmp_path / "none") is None
