"""Any TorchRL logger tracks a run; our trackers log for any TorchRL trainer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tensordict import TensorDict
from torchrl.record.loggers import CSVLogger, Logger, TensorboardLogger

from mario_dreamer.tracking.files import FileTracker, read_metrics
from mario_dreamer.tracking.torchrl_logger import TorchRLTracker
from mario_dreamer.tracking.trackers import Trackers, with_files

FRAMES = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)


def test_csvlogger_gets_numbers_configuration_and_videos(tmp_path: Path) -> None:
    tracker = with_files(TorchRLTracker(tmp_path, "mine", logger="csv"))
    tracker.log_hparams({"size": {"deter": 8}})
    tracker.log_metrics({"train/kl": torch.tensor(2.0)}, 10)
    tracker.log_video("eval/episode", FRAMES, 10)
    tracker.close()
    place = tmp_path / "torchrl" / "mine"
    assert (place / "scalars/train/kl.csv").read_text().split() == ["10,2.0"]
    assert "size.deter: 8" in next((place / "texts").iterdir()).read_text()
    (video,) = place.glob("videos/eval/episode*.pt")
    assert torch.load(video).shape[1:3] == (3, 3)
    assert read_metrics(tmp_path)["train/kl"] == [(10, 2.0)], "plain files are always there"


def test_tensorboardlogger_gets_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = TorchRLTracker(tmp_path, "mine", logger=TensorboardLogger)
    for step in (10, 20):
        tracker.log_metrics({"train/kl": step / 10}, step)
    tracker.close()
    events = EventAccumulator(str(tmp_path / "torchrl" / "mine"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/kl")] == [(10, 1.0), (20, 2.0)]
    assert not caplog.records


def test_a_finished_logger_object_is_taken_as_it_is(tmp_path: Path) -> None:
    logger = CSVLogger("given", str(tmp_path / "given"))
    tracker = with_files(logger, tmp_path / "run")
    assert isinstance(tracker, Trackers)
    tracker.log_metrics({"train/kl": 1.0}, 5)
    tracker.close()
    found = tmp_path / "given/given/scalars/train/kl.csv"
    assert found.read_text().split() == ["5,1.0"]


def test_an_unknown_logger_is_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="csv, tensorboard, wandb"):
        TorchRLTracker(tmp_path, logger="cvs")


def test_ours_speaks_the_logger_interface(tmp_path: Path) -> None:
    logger: Logger = FileTracker(tmp_path, "ours")
    assert isinstance(logger, Logger) and (logger.exp_name, logger.log_dir) == (
        "ours",
        str(tmp_path),
    )
    logger.log_hparams({"lr": 0.1})
    logger.log_scalar("train/lr", 0.1, step=3)
    nested = TensorDict({"train": {"kl": torch.tensor(2.0)}})
    assert logger.log_metrics(nested, step=4) == {"train/kl": 2.0}
    logger.log_video("eval/episode", FRAMES.expand(2, -1, -1, -1, -1), step=4, fps=6)
    logger.log_histogram("weights", [1.0, 2.0])
    logger.flush()
    assert set(logger.state_dict()) == {"exp_name", "log_dir"}
    logger.shutdown()
    curves = read_metrics(tmp_path)
    assert curves["train/lr"] == [(3, 0.1)] and curves["train/kl"] == [(4, 2.0)]
    assert (tmp_path / "videos/eval/episode/step_000000004.mp4").is_file()


def test_ours_logs_for_a_torchrl_trainer(tmp_path: Path) -> None:
    from torchrl.trainers import LogScalar, Trainer

    class Collected(list):
        init_random_frames = 0

        def shutdown(self) -> None: ...

    class Quadratic(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, batch: TensorDict) -> TensorDict:
            return TensorDict(loss_square=self.weight.square())

    reward = {"next": {"reward": torch.ones(4, 1)}, "collector": {"mask": torch.ones(4, 1).bool()}}
    batches = Collected(TensorDict(reward, [4]) for _ in range(3))
    loss = Quadratic()
    trainer = Trainer(
        collector=batches, total_frames=12, frame_skip=1, optim_steps_per_batch=1,
        loss_module=loss, optimizer=torch.optim.SGD(loss.parameters(), 0.1),
        logger=FileTracker(tmp_path), log_interval=1, progress_bar=False,
    )  # fmt: skip
    LogScalar(("next", "reward"), logname="my/reward").register(trainer)
    trainer.train()
    curve = read_metrics(tmp_path)["my/reward"]
    assert [value for _, value in curve] == [1.0] * len(curve) and len(curve) >= 2
