"""Base of all trackers: a TorchRL Logger that never stops the training.

Whatever goes wrong in a backend (a locked database, a server that is gone, a full disk) is logged
once as a warning; what could not be written is kept and written later.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tensordict import TensorDictBase
from torch import Tensor
from torchrl.record.loggers import Logger

from mario_dreamer.tracking.metrics import undocumented
from mario_dreamer.tracking.open_loop_images import stack_rows
from mario_dreamer.tracking.values import flatten, numbers
from mario_dreamer.tracking.video import encode_mp4, save_png

log = logging.getLogger("mario_dreamer.tracking")

STATUSES = ("FINISHED", "FAILED", "KILLED")
_VIDEO_SIDE = 256  # small frames are enlarged to about this many pixels


class Tracker(Logger):
    """Check and convert what is logged; keep failures of the backend away from the training.

    Any TorchRL trainer takes it as its logger. Beyond TorchRL's interface it has images, files,
    tags, `truncate_after` for a resume, and a status at the end. A backend overrides `_params`,
    `_scalars`, `_tags`, `_file`, `_truncate`, `_flush` and `_close`, and may raise in all of them.
    As a context manager it closes itself with the true status: FINISHED, KILLED after Ctrl-C or
    SystemExit, FAILED after any other exception.

    Args:
        folder: the run's folder; videos and images are put there.
        run_id: run to go on with; None for a new one.
    """

    def __init__(
        self, folder: str | Path = ".", run_name: str | None = None, run_id: str | None = None
    ) -> None:
        self.folder = Path(folder)
        self.run_name = run_name or self.folder.resolve().name
        self._run_id = run_id
        self._step = 0
        self._closed = False
        self._warned: set[str] = set()
        super().__init__(self.run_name, str(self.folder))

    @property
    def run_id(self) -> str | None:
        """Id of the run for a later resume; None while the backend has not given one."""
        return self._run_id

    @property
    def watch_hint(self) -> str | None:
        """How to look at the run while it goes on; None where there is nothing to look at."""
        return None

    def log_hparams(self, cfg: Mapping[str, Any]) -> None:
        """Log the configuration, nested as it is."""
        self._guard("params", lambda: self._params(flatten(cfg)))

    def log_scalar(self, name: str, value: float | Tensor, step: int | None = None) -> None:
        """Log one number; see `log_metrics`."""
        self.log_metrics({name: value}, step)

    def log_metrics(
        self,
        metrics: Mapping[str, float | Tensor] | TensorDictBase,
        step: int | None = None,
        *,
        keys_sep: str = "/",
    ) -> dict[str, float]:
        """Log numbers, and `run/agent_steps` with them; a name without a description warns once.

        Args:
            metrics: name -> number or tensor of one element.
            step: agent steps so far, the x axis of every curve; None for that of the last call.
            keys_sep: between the keys of a nested TensorDict.

        Returns:
            the numbers; empty where they cannot be converted.
        """
        self._step = step = self._step if step is None else int(step)
        values: dict[str, float] = {}
        now = time.time()

        def write() -> None:
            values.update(numbers(metrics, keys_sep))
            for name in undocumented(values):
                self._warn(name, f"metric {name!r} is logged, but the table of metrics lacks it")
            self._scalars({"run/agent_steps": float(step), **values}, step, now)

        self._guard("scalars", write)
        return values

    def log_video(
        self, name: str, video: Tensor, step: int | None = None, fps: float = 15, **options: Any
    ) -> None:
        """Log a video.

        Args:
            name: such as `eval/episode`; one folder holds its videos of all steps.
            video: [T, 3, H, W] uint8, or several side by side as [N, T, 3, H, W]. Small ones
                are enlarged by a whole factor.
            step: agent steps so far; None for those of the last metrics.
            options: of other loggers; not used.
        """
        step = self._step if step is None else step

        def write() -> None:
            frames = stack_rows(video) if video.ndim == 5 else video
            scale = max(1, _VIDEO_SIDE // max(frames.shape[-2:]))
            path = self.folder / "videos" / name / f"step_{step:09d}.mp4"
            self._file(encode_mp4(frames, path, fps, scale), f"videos/{name}", name, step)

        self._guard("video", write)

    def log_image(self, name: str, image: Tensor, step: int) -> None:
        """Log an image, [3, H, W] uint8; `name` as of a video, such as `dream/strip`."""
        path = self.folder / "images" / name / f"step_{step:09d}.png"
        self._guard(
            "image", lambda: self._file(save_png(image, path), f"images/{name}", name, step)
        )

    def log_artifact(self, path: str | Path, folder: str = "") -> None:
        """Log a file or a folder, which must stay there until the tracker is closed.

        Args:
            folder: where to put it among the run's artifacts.
        """
        self._guard("artifact", lambda: self._file(Path(path), folder, None, None))

    def log_model(self, path: str | Path, step: int) -> None:
        """Log a folder with an MLflow model, as `log_artifact`; other backends leave it there."""
        self._guard("model", lambda: self._model(Path(path), step))

    def log_tags(self, tags: Mapping[str, Any]) -> None:
        """Log what is neither a number over time nor configuration, as key -> text."""
        self._guard("tags", lambda: self._tags({key: str(value) for key, value in tags.items()}))

    def log_histogram(self, name: str, data: Sequence[float], **options: Any) -> None:
        """Log no histogram; warn once."""
        self._warn("histogram", f"{name}: histograms are not logged")

    def truncate_after(self, step: int, since: float | None = None) -> None:
        """Forget what was logged after `step`: the run goes on from there and logs it again.

        Where nothing can be removed, what comes a second time is left out instead.

        Args:
            step: agent steps of the checkpoint; 0 for a run that begins.
            since: forget also what was logged at `step` itself after this time in seconds, such
                as an evaluation that is repeated; None forgets nothing of it.
        """
        end = math.inf if since is None else since
        self._guard("truncate", lambda: self._truncate(int(step), end))

    def flush(self, timeout: float | None = None) -> None:
        """Let what has been logged outlive a kill of this process, without waiting."""
        self._guard("flush", self._flush)

    def close(self, status: str = "FINISHED", timeout: float | None = None) -> None:
        """Write what is left and log how the run ended. A second call does nothing.

        Raises:
            ValueError: for a status that is none of `STATUSES`.
        """
        if status not in STATUSES:
            raise ValueError(f"close: got status {status!r}, expected one of {STATUSES}.")
        if not self._closed:
            self._guard("close", lambda: self._close(status))
            self._closed = True

    def shutdown(self, timeout: float | None = None) -> None:
        """Close as FINISHED: TorchRL's name for it."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        failed = "FAILED" if kind is not None and issubclass(kind, Exception) else "KILLED"
        self.close("FINISHED" if kind is None else failed)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(folder={str(self.folder)!r}, run_name={self.run_name!r})"

    def _warn(self, topic: str, message: str) -> None:
        """Warn once for each topic."""
        if topic not in self._warned:
            self._warned.add(topic)
            log.warning("%s: %s", type(self).__name__, message)

    def _guard(self, what: str, call: Callable[[], None]) -> None:
        """Call a backend; whatever it raises is logged once and goes no further."""
        if self._closed:
            self._warn("closed", f"{what} came after close and is lost")
            return
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever it is, learning goes on
            self._warn(what, f"{what} failed, training goes on: {type(error).__name__}: {error}")

    def _create_experiment(self) -> None:
        """TorchRL's hook for a foreign object that logs: there is none."""

    def _params(self, flat: dict[str, str]) -> None:
        """Backend: log the flattened configuration."""

    def _scalars(self, values: dict[str, float], step: int, now: float) -> None:
        """Backend: log numbers of one step; `now` is the time in seconds."""

    def _tags(self, tags: dict[str, str]) -> None:
        """Backend: log tags."""

    def _file(self, path: Path, folder: str, name: str | None, step: int | None) -> None:
        """Backend: log a file; `name` and `step` are given for videos and images."""

    def _model(self, path: Path, step: int) -> None:
        """Backend: log an MLflow model."""

    def _truncate(self, step: int, since: float) -> None:
        """Backend: forget what was logged after `step`, and at `step` after the time `since`."""

    def _flush(self) -> None:
        """Backend: put what waits where a kill does not reach it."""

    def _close(self, status: str) -> None:
        """Backend: write what is left."""


class NoTracker(Tracker):
    """Log nothing."""

    def _guard(self, what: str, call: Callable[[], None]) -> None:
        """Call nothing: no video is made that nobody will see."""
