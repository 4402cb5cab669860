"""A tracker listens; it converts what it hears, and never stops the training."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
import torch

from mario_dreamer.tracking.tracker import NoTracker, Tracker
from mario_dreamer.tracking.trackers import Trackers
from mario_dreamer.tracking.values import flatten, numbers


class Notebook(Tracker):
    """Remember everything, as a tracker of a user's own would."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.heard: list[tuple] = []

    def _params(self, flat: dict[str, str]) -> None:
        self.heard.append(("params", flat))

    def _scalars(self, values: dict[str, float], step: int, now: float) -> None:
        self.heard.append(("scalars", values, step))

    def _file(self, path: Path, folder: str, name: str | None, step: int | None) -> None:
        self.heard.append(("file", path, folder, name, step))

    def _close(self, status: str) -> None:
        self.heard.append(("close", status))


class Broken(Tracker):
    """Fail at everything."""

    def _scalars(self, values: dict[str, float], step: int, now: float) -> None:
        raise OSError("no space left on device")

    _params = _tags = _file = _close = _scalars


def test_a_nested_configuration_becomes_dotted_names() -> None:
    nested = {"a": {"b": 1, "c": {}}, "list": [1, 2], "parts": [{"x": None}], "s": "text"}
    assert flatten(nested) == {
        "a.b": "1",
        "a.c": "{}",
        "list": "[1, 2]",
        "parts.0.x": "None",
        "s": "text",
    }


def test_tensors_and_numbers_become_floats_in_the_same_order() -> None:
    values = {"kl": torch.tensor(1.5, dtype=torch.bfloat16), "play/flag": True, "run/frames": 7}
    found = numbers(values)
    assert found == {"kl": 1.5, "play/flag": 1.0, "run/frames": 7.0}
    assert list(found) == list(values)
    assert math.isnan(numbers({"kl": torch.tensor(float("nan"))})["kl"])


def test_a_tensor_of_many_numbers_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'kl'.*shape \\(2,\\)"):
        numbers({"kl": torch.zeros(2)})


def test_agent_steps_are_a_metric_too(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path)
    notebook.log_metrics({"kl": torch.tensor(2.0)}, step=10)
    assert notebook.heard == [("scalars", {"run/agent_steps": 10.0, "kl": 2.0}, 10)]


def test_an_undocumented_metric_is_logged_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notebook = Notebook(tmp_path)
    for step in range(3):
        notebook.log_metrics({"my/metric": 1.0}, step)
    assert len(notebook.heard) == 3
    assert [record.message.count("my/metric") for record in caplog.records] == [1]


def test_a_broken_backend_warns_once_and_lets_the_run_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Broken(tmp_path)
    for step in range(3):
        broken.log_metrics({"kl": 1.0}, step)
    broken.close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "no space left on device" in caplog.records[0].message


def test_a_broken_tracker_disturbs_no_other(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path)
    both = Trackers(Broken(tmp_path), notebook)
    both.log_hparams({"a": 1})
    both.log_metrics({"kl": 1.0}, 1)
    both.close("KILLED")
    assert [entry[0] for entry in notebook.heard] == ["params", "scalars", "close"]
    assert notebook.heard[-1] == ("close", "KILLED")


def test_a_video_is_encoded_once_for_all(tmp_path: Path) -> None:
    first, second = Notebook(tmp_path / "x"), Notebook(tmp_path / "y")
    frames = torch.zeros(3, 3, 16, 16, dtype=torch.uint8)
    Trackers(first, second).log_video("eval/episode", frames, step=12)
    path = tmp_path / "x" / "videos" / "eval" / "episode" / "step_000000012.mp4"
    assert (
        first.heard == second.heard == [("file", path, "videos/eval/episode", "eval/episode", 12)]
    )
    assert path.is_file()
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")],
)
def test_a_with_block_closes_with_the_true_status(
    tmp_path: Path, error: type[BaseException] | None, status: str
) -> None:
    notebook = Notebook(tmp_path)
    try:
        with notebook:
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    assert notebook.heard == [("close", status)]


def test_only_the_first_close_counts(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path)
    with pytest.raises(ValueError, match="'DONE'"):
        notebook.close("DONE")
    notebook.close("FAILED")
    notebook.close("FINISHED")
    assert notebook.heard == [("close", "FAILED")]


def test_no_tracker_leaves_no_file(tmp_path: Path) -> None:
    with NoTracker(tmp_path / "run") as tracker:
        tracker.log_hparams({"a": 1})
        tracker.log_metrics({"kl": 1.0}, 1)
        tracker.log_video("eval/episode", torch.zeros(2, 3, 8, 8, dtype=torch.uint8), 1)
        tracker.log_image("dream/strip", torch.zeros(3, 8, 8, dtype=torch.uint8), 1)
    assert list(tmp_path.iterdir()) == []
