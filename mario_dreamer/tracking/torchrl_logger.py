"""Log a run through any TorchRL logger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torchrl.record.loggers import CSVLogger, Logger, TensorboardLogger, WandbLogger

from mario_dreamer.tracking.tracker import Tracker
from mario_dreamer.tracking.video import decode_video

LOGGERS: dict[str, type[Logger]] = {
    "csv": CSVLogger,
    "tensorboard": TensorboardLogger,
    "wandb": WandbLogger,
}


class TorchRLTracker(Tracker):
    """Hand numbers, videos and the configuration to a TorchRL logger.

    Such a logger cannot remove a point: after a kill, steps that are trained again are there
    twice. It takes no images and no files; those stay in the run's folder.

    Args:
        folder: the run's folder; loggers that write files write below it.
        run_name: the logger's `exp_name`.
        run_id: run to go on with; W&B takes it.
        logger: one of `LOGGERS`; or a Logger; or what makes one from `exp_name` and `log_dir`,
            such as a class.
        options: for the logger, where it is made here.

    Raises:
        ValueError: for an unknown word.
        ImportError: when the logger's library is not installed.
    """

    def __init__(
        self,
        folder: str | Path = ".",
        run_name: str | None = None,
        run_id: str | None = None,
        logger: str | Logger | Callable[..., Logger] = "csv",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(folder, run_name, run_id)
        given = {"exp_name": self.run_name, "log_dir": str(self.folder / "torchrl")}
        if isinstance(logger, str):
            if logger not in LOGGERS:
                raise ValueError(
                    f"tracker.logger: got {logger!r}, expected one of {', '.join(LOGGERS)}."
                )
            if logger == "wandb" and run_id:
                given |= {"id": run_id, "resume": "allow"}
            logger = LOGGERS[logger]
        given |= options or {}
        self.logger = logger if isinstance(logger, Logger) else logger(**given)

    @property
    def run_id(self) -> str | None:
        """The id that W&B gave; else the one that was given here."""
        found = getattr(self.logger.experiment, "id", None)
        return found if isinstance(found, str) else self._run_id

    def _params(self, flat: dict[str, str]) -> None:
        self.logger.log_hparams(flat)

    def _scalars(self, values: dict[str, float], step: int, now: float) -> None:
        self.logger.log_metrics(values, step)

    def _file(self, path: Path, folder: str, name: str | None, step: int | None) -> None:
        if path.suffix == ".mp4" and name is not None:
            frames, fps = decode_video(path)
            self.logger.log_video(name, frames[None], step=step, fps=fps)

    def _flush(self) -> None:
        self.logger.flush()

    def _close(self, status: str) -> None:
        self.logger.shutdown()
