"""TensorBoard's own reader finds what was logged."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from mario_dreamer.tracking.tensorboard import TensorBoardTracker


@pytest.fixture(autouse=True)
def first_event_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number the event files from 0: TensorBoard reads number 10 of a second before number 9."""
    writer = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    monkeypatch.setattr(writer, "_global_uid", writer.AtomicCounter(0))


def test_curves_pictures_and_moving_gifs_are_in_the_event_file(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = TensorBoardTracker(tmp_path)
    tracker.log_hparams({"seed": 0})
    tracker.log_metrics({"kl": torch.tensor(2.0)}, step=10)
    tracker.log_metrics({"kl": torch.tensor(1.0)}, step=20)
    tracker.log_image("dream/strip", torch.zeros(3, 8, 12, dtype=torch.uint8), 10)
    frames = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    frames[1], frames[2] = 100, 200
    tracker.log_video("eval/episode", frames, 10, fps=4)
    tracker.close()

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("kl")] == [(10, 2.0), (20, 1.0)]
    assert (events.Images("dream/strip")[0].width, events.Images("dream/strip")[0].height) == (
        12,
        8,
    )
    with Image.open(io.BytesIO(events.Images("eval/episode")[0].encoded_image_string)) as gif:
        assert gif.n_frames == 3 and gif.info["duration"] == 250  # milliseconds
    videos = tmp_path / "videos" / "eval" / "episode"
    assert [path.name for path in videos.iterdir()] == ["step_000000010.mp4"]


def test_a_resume_hides_what_was_logged_after_its_checkpoint(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    killed = TensorBoardTracker(tmp_path)
    for step in (10, 20, 30):
        killed.log_metrics({"kl": float(step)}, step=step)
    killed.close()
    resumed = TensorBoardTracker(tmp_path)
    resumed.truncate_after(20)
    resumed.log_metrics({"kl": 25.0}, step=25)
    resumed.close()

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("kl")] == [10, 20, 25]


def test_a_repeated_evaluation_is_shown_once(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    killed = TensorBoardTracker(tmp_path)
    for step in (10, 20):
        killed.log_metrics({"kl": float(step)}, step=step)
    began = time.time()
    killed.log_metrics({"eval_return": 5.0}, step=20)
    killed.close()
    for _ in range(2):  # the second time, after a kill before the evaluation is logged again
        resumed = TensorBoardTracker(tmp_path)
        resumed.truncate_after(20, began)
        resumed.flush()
    resumed.log_metrics({"eval_return": 5.0}, step=20)
    resumed.close()

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = [[event.step for event in events.Scalars(name)] for name in ("kl", "eval_return")]
    assert shown == [[10, 20], [20]]


def test_without_tensorboard_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"mario_dreamer\[tensorboard\]"):
        TensorBoardTracker(tmp_path)
