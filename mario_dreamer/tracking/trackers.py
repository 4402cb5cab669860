"""Log to several trackers at once; every run also leaves plain files."""

from __future__ import annotations

from functools import partialmethod
from pathlib import Path
from typing import Any

from torchrl.record.loggers import Logger

from mario_dreamer.tracking.files import FileTracker
from mario_dreamer.tracking.torchrl_logger import TorchRLTracker
from mario_dreamer.tracking.tracker import NoTracker, Tracker


class Trackers(Tracker):
    """Log to several trackers; videos are encoded once, a failing one disturbs no other.

    Args:
        main: gives the run its id.
        others: log the same.
    """

    def __init__(self, main: Tracker, *others: Tracker) -> None:
        self.members = (main, *others)
        super().__init__(main.folder, main.run_name)

    @property
    def run_id(self) -> str | None:
        """The main tracker's run id."""
        return self.members[0].run_id

    @property
    def watch_hint(self) -> str | None:
        """The main tracker's."""
        return self.members[0].watch_hint

    def _all(self, hook: str, *args: Any) -> None:
        for member in self.members:
            member._guard(hook.strip("_"), lambda m=member: getattr(m, hook)(*args))

    _params = partialmethod(_all, "_params")
    _scalars = partialmethod(_all, "_scalars")
    _tags = partialmethod(_all, "_tags")
    _file = partialmethod(_all, "_file")
    _model = partialmethod(_all, "_model")
    _truncate = partialmethod(_all, "_truncate")
    _flush = partialmethod(_all, "_flush")

    def _close(self, status: str) -> None:
        for member in self.members:
            member.close(status)


def with_files(tracker: Logger, folder: Path | None = None) -> Tracker:
    """Make sure that a run also leaves metrics.jsonl and run.json in its folder.

    Args:
        tracker: the one chosen by config; any TorchRL logger.
        folder: the run's folder, for a logger that is no Tracker; None for the current one.

    Returns:
        the tracker if it writes files itself, a FileTracker in place of none, else both.
    """
    if not isinstance(tracker, Tracker):
        tracker = TorchRLTracker(folder or Path(), logger=tracker)
    if isinstance(tracker, FileTracker):
        return tracker
    if isinstance(tracker, NoTracker):
        return FileTracker(tracker.folder, tracker.run_name, csv=False)
    files = FileTracker(tracker.folder, tracker.run_name, tracker.run_id, csv=False)
    return Trackers(tracker, files)
