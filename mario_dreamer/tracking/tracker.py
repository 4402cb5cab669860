"""Tracker: tell somebody how the run goes. It listens, and never stops the learning.

Whatever goes wrong in a backend (a locked database, a server that is gone, a full disk) is said
once in the log; what could not be written is kept and written later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from mario_dreamer.tracking.metrics import undocumented
from mario_dreamer.tracking.video import encode_mp4, save_png

__all__ = ["STATUSES", "NoTracker", "Tracker", "Trackers", "flatten", "numbers"]

log = logging.getLogger("mario_dreamer.tracking")

STATUSES = ("FINISHED", "FAILED", "KILLED")
_VIDEO_SIDE = 256  # small frames are enlarged to about this many pixels


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Turn a nested configuration into `a.b.0.c` -> text.

    >>> flatten({"replay": {"size": 10}, "shape": [4, 8]})
    {'replay.size': '10', 'shape': '[4, 8]'}
    """
    flat: dict[str, str] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        elif isinstance(value, Sequence) and any(isinstance(item, Mapping) for item in value):
            flat.update(flatten({str(i): item for i, item in enumerate(value)}, f"{name}."))
        else:
            flat[name] = str(value)
    return flat


def numbers(values: Mapping[str, float | Tensor]) -> dict[str, float]:
    """Bring numbers and 0-dim tensors to Python floats, with one wait per device.

    Raises:
        ValueError: for a tensor of more than one element.
    """
    found = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    for name, value in found.items():
        if value.numel() != 1:
            raise ValueError(
                f"metric {name!r}: got a tensor of shape {tuple(value.shape)}, expected one "
                "number. Take its mean before it is logged."
            )
    fetched: dict[str, float] = {}
    for device in {value.device for value in found.values()}:
        names = [name for name, value in found.items() if value.device == device]
        stacked = torch.stack([found[name].detach().double().reshape(()) for name in names])
        fetched.update(zip(names, stacked.tolist(), strict=True))
    return {
        name: fetched[name] if name in fetched else float(value) for name, value in values.items()
    }


class Tracker:
    """Base of all trackers: checks, converts, and keeps failures away from the training.

    A backend overrides `_params`, `_scalars`, `_tags`, `_file` and `_close`, and may raise
    there as it likes. As a context manager it closes itself with the true status: FINISHED,
    KILLED after Ctrl-C or SystemExit, FAILED after any other exception.

    Args:
        folder: the run's folder; videos and images are put there.
        run_name: name for people.
        run_id: run to go on with; None for a new one.
    """

    def __init__(
        self, folder: str | Path = ".", run_name: str | None = None, run_id: str | None = None
    ) -> None:
        self.folder = Path(folder)
        self.run_name = run_name or self.folder.resolve().name
        self._run_id = run_id
        self._closed = False
        self._warned: set[str] = set()

    @property
    def run_id(self) -> str | None:
        """Name of the run for a later resume; None while the backend has not given one."""
        return self._run_id

    def params(self, config: Mapping[str, Any]) -> None:
        """Log the configuration, nested as it is."""
        self._guard("params", self._params, flatten(config))

    def scalars(
        self, values: Mapping[str, float | Tensor], step: int, frames: int | None = None
    ) -> None:
        """Log numbers.

        Args:
            values: metric name -> number or 0-dim tensor; names of `metrics.METRICS`.
            step: agent steps so far: the x axis of every curve.
            frames: emulator frames so far, logged as `run/frames`.
        """
        for name in undocumented(values):
            self._warn(f"name {name}", f"metric {name!r} is not in tracking/metric_table.py")
        counters = {"run/agent_steps": step} | ({} if frames is None else {"run/frames": frames})
        self._guard("scalars", self._convert, values, counters, int(step), time.time())

    def _convert(
        self, values: Mapping[str, float | Tensor], counters: dict[str, int], step: int, now: float
    ) -> None:
        self._scalars(numbers({**counters, **values}), step, now)

    def video(self, name: str, frames: Tensor, step: int, fps: float = 15) -> None:
        """Log a video.

        Args:
            name: such as `eval/episode`; one folder holds its videos of all steps.
            frames: [T, 3, H, W] uint8. Small ones are enlarged by a whole factor.
            step: agent steps so far.
            fps: frames per second.
        """
        self._guard("video", self._encode_video, name, frames, step, fps)

    def _encode_video(self, name: str, frames: Tensor, step: int, fps: float) -> None:
        scale = max(1, _VIDEO_SIDE // max(frames.shape[-2:]))
        path = self.folder / "videos" / name / f"step_{step:09d}.mp4"
        self._file(encode_mp4(frames, path, fps, scale), f"videos/{name}", name, step)

    def image(self, name: str, image: Tensor, step: int) -> None:
        """Log a picture.

        Args:
            name: such as `dream/strip`; one folder holds its pictures of all steps.
            image: [3, H, W] uint8.
            step: agent steps so far.
        """
        self._guard("image", self._encode_image, name, image, step)

    def _encode_image(self, name: str, image: Tensor, step: int) -> None:
        path = self.folder / "images" / name / f"step_{step:09d}.png"
        self._file(save_png(image, path), f"images/{name}", name, step)

    def artifact(self, path: str | Path, folder: str = "") -> None:
        """Log a file or a folder that exists.

        Args:
            path: on this machine; it must stay there until the tracker is closed.
            folder: where to put it among the run's artifacts.
        """
        self._guard("artifact", self._file, Path(path), folder, None, None)

    def tags(self, tags: Mapping[str, Any]) -> None:
        """Log facts about the run that are neither numbers over time nor configuration."""
        self._guard("tags", self._tags, {key: str(value) for key, value in tags.items()})

    def rewind(self, step: int) -> None:
        """Forget what was told after `step`: the run goes on from there and tells it once more.

        Where nothing can be taken back, what comes a second time is left out instead.

        Args:
            step: agent steps of the checkpoint; 0 for a run that begins.
        """
        self._guard("rewind", self._rewind, int(step))

    def settle(self) -> None:
        """Let what has been told outlive a kill of this process, without waiting for anybody."""
        self._guard("settle", self._settle)

    def close(self, status: str = "FINISHED") -> None:
        """Write what is left and say how the run ended. A second call does nothing.

        Args:
            status: FINISHED, FAILED or KILLED.

        Raises:
            ValueError: for another status.
        """
        if status not in STATUSES:
            raise ValueError(f"close: got status {status!r}, expected one of {STATUSES}.")
        if not self._closed:
            self._guard("close", self._close, status)
            self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close("FINISHED")
        else:
            self.close("FAILED" if issubclass(kind, Exception) else "KILLED")

    def _warn(self, topic: str, message: str) -> None:
        """Say something once for each topic."""
        if topic not in self._warned:
            self._warned.add(topic)
            log.warning("%s: %s", type(self).__name__, message)

    def _guard(self, what: str, call: Callable[..., None], *args: Any) -> None:
        """Call a backend; whatever it raises is logged once and goes no further."""
        if self._closed:
            self._warn("closed", f"{what} came after close and is lost")
            return
        try:
            call(*args)
        except Exception as error:  # noqa: BLE001 - whatever it is, learning goes on
            self._warn(what, f"{what} failed, training goes on: {type(error).__name__}: {error}")

    def _params(self, flat: dict[str, str]) -> None:
        """Backend: log the flattened configuration."""

    def _scalars(self, values: dict[str, float], step: int, now: float) -> None:
        """Backend: log numbers of one step; `now` is the time in seconds."""

    def _tags(self, tags: dict[str, str]) -> None:
        """Backend: log tags."""

    def _file(self, path: Path, folder: str, name: str | None, step: int | None) -> None:
        """Backend: log a file; `name` and `step` are given for videos and images."""

    def _rewind(self, step: int) -> None:
        """Backend: forget what was told after `step`."""

    def _settle(self) -> None:
        """Backend: put what waits where a kill does not reach it."""

    def _close(self, status: str) -> None:
        """Backend: write what is left."""


class NoTracker(Tracker):
    """Log nothing."""

    def _encode_video(self, name: str, frames: Tensor, step: int, fps: float) -> None:
        """Make no video that nobody will see."""

    def _encode_image(self, name: str, image: Tensor, step: int) -> None:
        """Make no picture that nobody will see."""


class Trackers(Tracker):
    """Tell several trackers at once; videos are encoded once, a failing one disturbs no other.

    Args:
        main: gives the run its id.
        others: hear the same.
    """

    def __init__(self, main: Tracker, *others: Tracker) -> None:
        super().__init__(main.folder, main.run_name)
        self.members = (main, *others)

    @property
    def run_id(self) -> str | None:
        """The main tracker's run id."""
        return self.members[0].run_id

    def _all(self, hook: str, *args: Any) -> None:
        for member in self.members:
            member._guard(hook.strip("_"), getattr(member, hook), *args)

    def _params(self, flat: dict[str, str]) -> None:
        self._all("_params", flat)

    def _scalars(self, values: dict[str, float], step: int, now: float) -> None:
        self._all("_scalars", values, step, now)

    def _tags(self, tags: dict[str, str]) -> None:
        self._all("_tags", tags)

    def _file(self, path: Path, folder: str, name: str | None, step: int | None) -> None:
        self._all("_file", path, folder, name, step)

    def _rewind(self, step: int) -> None:
        self._all("_rewind", step)

    def _settle(self) -> None:
        self._all("_settle")

    def _close(self, status: str) -> None:
        for member in self.members:
            member.close(status)
