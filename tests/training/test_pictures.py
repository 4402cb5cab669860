from __future__ import annotations

from typing import Any

import torch
from tiny import Silence, Tiny, make_tiny

from mario_dreamer.config import build
from mario_dreamer.tracking.metrics import undocumented
from mario_dreamer.training.pictures import EvaluationReport, open_loop


class Album(Silence):
    """A tracker that keeps the shapes of what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: dict[str, torch.Tensor] = {}

    def log_video(self, name: str, frames: torch.Tensor, *args: Any, **options: Any) -> None:
        self.shown[name] = frames

    log_image = log_video


def evaluation(tiny: Tiny, album: Album, episodes: int = 3) -> EvaluationReport:
    return EvaluationReport(
        tiny.policy, lambda: build.make_eval_env(tiny.cfg, tiny.policy), tiny.replay,
        tiny.agent.world_model, album, episodes,
    )  # fmt: skip


def test_an_evaluation_tells_numbers_and_shows_pictures() -> None:
    tiny, album = make_tiny("collector.eval_envs=2").fill(), Album()
    found = evaluation(tiny, album)(48)
    assert found["eval/sampled/return"] == found["eval/greedy/return"] == 210.0
    assert 0 < found["eval/open_loop_error"] < 1
    assert undocumented(found) == []
    for name, frames in album.shown.items():
        assert frames.dtype == torch.uint8 and frames.device.type == "cpu", name
    assert album.shown["eval/episode"].shape == (6, 3, 16, 16)
    assert {"dream/open_loop", "dream/strip"} <= set(album.shown)


def test_an_evaluation_changes_nothing_of_what_is_learned_next() -> None:
    def losses(looks: bool) -> list[float]:
        tiny = make_tiny("collector.eval_envs=2").fill()
        found = []
        for _ in range(2):
            if looks:
                evaluation(tiny, Album(), 2)(48)
            found.append(float(tiny.learner.update(tiny.replay.sample())["total"]))
        return found

    assert losses(True) == losses(False)


def test_no_episodes_still_draws_the_pictures() -> None:
    tiny, album = make_tiny().fill(), Album()
    found = evaluation(tiny, album, 0)(48)
    assert "eval/sampled/return" not in found and "dream/strip" in album.shown


def test_a_prediction_is_a_picture_next_to_the_truth() -> None:
    tiny = make_tiny().fill()
    truth, prediction, seen = open_loop(tiny.agent.world_model, tiny.replay, rows=2)
    assert truth.shape == prediction.shape == (2, 5, 3, 16, 16) and seen == 2
    assert float(prediction.min()) >= 0.0 and float(prediction.max()) <= 1.0
