"""The checkpoint with the best evaluation stays when newer ones replace it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import make_tiny, restore

from mario_dreamer.training.best import keep_best
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import read
from mario_dreamer.training.loop import train

SCORES = [
    ((0.5, 10.0), (0.5, 9.0), False), ((0.5, 10.0), (0.5, 10.0), True),
    ((0.5, 10.0), (0.75, 1.0), True), ((0.5, 10.0), (0.25, 99.0), False),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "is_replaced"), SCORES)
def test_flags_count_before_return(
    first: tuple, second: tuple, is_replaced: bool, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step, (flags, score) in enumerate((first, second), 1):
        path = checkpoints.save(step, {"agent": {}}, {"config.yaml": ""})
        keep_best(path, step, {"eval/sampled/flag_rate": flags, "eval_return": score})
    kept = json.loads((tmp_path / "best" / "evaluation.json").read_text())
    assert kept["step"] == (2 if is_replaced else 1)


def test_a_run_keeps_its_best_evaluated_checkpoint(tmp_path: Path) -> None:
    returns = {16: 1.0, 32: 5.0, 48: 2.0}
    tiny = make_tiny("log_every=16", "save_every=16", "eval_every=16", "steps=48", "train_ratio=1")
    parts, run = tiny.parts(tmp_path, keep=1, evaluate=lambda step: {"eval_return": returns[step]})
    train(parts, run)
    assert Checkpoints(tmp_path).latest().name == "step_000000048"
    kept = json.loads((tmp_path / "best" / "evaluation.json").read_text())
    assert (kept["step"], kept["score"]) == (32, [0.0, 5.0])
    assert read(tmp_path / "best", "agent").keys() == read(tmp_path / "step_000000048", "agent").keys()


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


def test_an_evaluation_repeated_after_a_kill_still_counts(tmp_path: Path) -> None:
    words = ["log_every=16", "save_every=16", "eval_every=16", "steps=48", "train_ratio=1"]
    folder, returns = tmp_path / "checkpoints", {16: 1.0, 32: 5.0, 48: 2.0}

    def killed(step: int) -> dict[str, float]:
        if step == 32:
            raise Killed
        return {"eval_return": returns[step]}

    parts, run = make_tiny(*words).parts(folder, evaluate=killed)
    with pytest.raises(Killed):
        train(parts, run)
    parts, run = make_tiny(*words).parts(folder, evaluate=lambda step: {"eval_return": returns[step]})
    train(parts, run, restore(parts, Checkpoints(folder).latest()))
    assert json.loads((folder / "best" / "evaluation.json").read_text())["step"] == 32


def test_a_best_without_a_score_of_ours_is_replaced(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(1, {"agent": {}}, {"config.yaml": ""})
    checkpoints.save_best(9, path, {"evaluation.json": '{"score": ["many"]}'})
    assert keep_best(path, 1, {"eval_return": 1.0}) == tmp_path / "best"
    assert json.loads((tmp_path / "best" / "evaluation.json").read_text())["score"] == [0.0, 1.0]
