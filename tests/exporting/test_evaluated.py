"""The tags of a model: what an evaluation found, of this checkpoint and of no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mario_dreamer.exporting.evaluated import evaluation_tags, find_results, read_results


def entry(actions: str, noops: int, rate: float) -> dict:
    summary = {
        "episodes": 100.0, "return": 812.34, "flag_rate": rate, "flag_low": 0.4, "flag_high": 0.6,
        "x_max": 1500.0,
    }  # fmt: skip
    return {"actions": actions, "random_noops": noops, "sticky": 0.0, "summary": summary}


def results(folder: Path, checkpoint: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "results.json"
    file.write_text(json.dumps({"checkpoint": checkpoint, "results": [entry("sampled", 0, 0.5)]}))
    return file


def test_the_headline_is_the_plain_start_with_sampled_actions() -> None:
    played = [entry("greedy", 0, 0.9), entry("sampled", 30, 0.3), entry("sampled", 0, 0.5)]
    tags = evaluation_tags(played, {"agent_steps": 24512, "stage": "1-1", "torch": "2"})
    assert tags["success_rate"] == "0.5000" and tags["success_low"] == "0.4000"
    assert tags["success_episodes"] == "100" and tags["stage"] == "1-1"
    assert tags["agent_steps"] == "24512" and "torch" not in tags
    assert tags["evaluation.greedy-noops0-sticky0"] == (
        "flag 0.900 [0.400, 0.600], 100 episodes, return 812.3, mean x 1500"
    )


def test_without_an_evaluation_the_tags_have_no_success_rate() -> None:
    assert evaluation_tags([], {"agent_steps": 7, "stage": None}) == {"agent_steps": "7"}


def test_results_of_another_checkpoint_of_the_run_do_not_count(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "step_000000020"
    checkpoint.mkdir(parents=True)
    assert find_results(checkpoint) is None
    file = results(tmp_path / "run" / "evaluation", "elsewhere/run/checkpoints/step_000000010")
    assert find_results(checkpoint) is None
    results(tmp_path / "run" / "evaluation", "elsewhere/run/checkpoints/step_000000020")
    assert find_results(checkpoint) == file.resolve()
    own = results(checkpoint, "anything")
    assert find_results(checkpoint) == own.resolve()


def test_a_file_that_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"results": [{"actions": "sampled"}]}')
    with pytest.raises(ValueError, match="holds no evaluation"):
        read_results(tmp_path / "results.json")
