"""Log a run as TensorBoard event files, with moving pictures and without points that come twice."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image

from mario_dreamer.checks import require_package
from mario_dreamer.tracking.tracker import Tracker
from mario_dreamer.tracking.video import decode_video, encode_gif


class TensorBoardTracker(Tracker):
    """Write event files; `tensorboard --logdir <folder>` shows them.

    Videos become moving GIFs, because TensorBoard plays nothing else.

    Args:
        folder: the run's folder; the events lie in its `tensorboard`.
        run_id: not used: a run goes on by writing to the same folder.
        flush_seconds: seconds between two writes.

    Raises:
        ImportError: without the optional package tensorboard.
    """

    def __init__(
        self,
        folder: str | Path = ".",
        run_name: str | None = None,
        run_id: str | None = None,
        flush_seconds: float = 10.0,
    ) -> None:
        super().__init__(folder, run_name, run_id)
        writer = require_package("torch.utils.tensorboard", "tensorboard", "tracker=tensorboard")
        self._make_writer = lambda **options: writer.SummaryWriter(
            str(self.folder / "tensorboard"), flush_secs=max(1, round(flush_seconds)), **options
        )
        self._writer = self._make_writer()

    def _params(self, flat: dict[str, str]) -> None:
        rows = "\n".join(f"| {key} | `{value}` |" for key, value in flat.items())
        self._writer.add_text("params", f"| key | value |\n|---|---|\n{rows}")

    def _scalars(self, values: dict[str, float], step: int, now: float) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step, now)

    def _tags(self, tags: dict[str, str]) -> None:
        for key, value in tags.items():
            self._writer.add_text(f"tags/{key}", value)

    def _file(self, path: Path, folder: str, name: str | None, step: int | None) -> None:
        """Show pictures and videos; TensorBoard has no place for other files."""
        if name is None:
            return
        if path.suffix == ".mp4":
            frames, fps = decode_video(path)
            path = encode_gif(frames, path.with_suffix(".gif"), fps)
        from tensorboard.compat.proto.summary_pb2 import Summary

        with Image.open(path) as image:
            width, height = image.size
        picture = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes()
        )
        summary = Summary(value=[Summary.Value(tag=name, image=picture)])
        self._writer._get_file_writer().add_summary(summary, step)
        if path.suffix == ".gif":
            path.unlink()  # the event file has it now

    def _truncate(self, step: int, since: float) -> None:
        """Let TensorBoard hide what was logged after `step`, and at `step` after `since`."""
        self._writer.close()
        if math.isinf(since):
            self._writer = self._make_writer(purge_step=step + 1)
            return
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        # It can hide whole steps only, so that what stays of this one is written again.
        events = EventAccumulator(str(self.folder / "tensorboard"), {"scalars": 0})
        events.Reload()
        self._writer = self._make_writer(purge_step=step)
        for name in events.Tags()["scalars"]:
            for event in events.Scalars(name):
                if event.step == step and event.wall_time <= since:
                    self._writer.add_scalar(name, event.value, step, event.wall_time)

    def _flush(self) -> None:
        self._writer.flush()

    def _close(self, status: str) -> None:
        self._writer.add_text("status", status)
        self._writer.close()
