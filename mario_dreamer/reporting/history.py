"""History of a run, read from its own files: episodes, losses, hours of work."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mario_dreamer.tracking.files import read_info, read_reports

PAUSE = 1800.0  # seconds without a line mean that the run was interrupted


@dataclass
class History:
    """What a run has logged so far.

    Args:
        name: of its folder.
        info: run.json: status, tags with commit and machine; empty where it is missing.
        config: as resolved; empty where it is missing.
        episodes: of the training, in order: step, frames, hours, return, length; x_max and flag
            where the env reports them.
        reports: all other lines: `step`, `hours`, and metrics by name.
    """

    name: str
    info: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    episodes: list[dict[str, float]] = field(default_factory=list)
    reports: list[dict[str, float]] = field(default_factory=list)

    def last(self, name: str) -> float | None:
        """The newest value of a metric; None when it was never logged."""
        return next((row[name] for row in reversed(self.reports) if name in row), None)

    def curve(self, name: str) -> tuple[list[float], list[float]]:
        """The steps and values of a metric; empty when it was never logged."""
        rows = [row for row in self.reports if name in row]
        return [row["step"] for row in rows], [row[name] for row in rows]


def read_history(folder: str | Path) -> History:
    """Read a run's folder; hours count only the time it was at work.

    Args:
        folder: with metrics.jsonl; config.yaml and run.json where they are there.

    Raises:
        FileNotFoundError: when there is no metrics.jsonl.
    """
    folder = Path(folder)
    if not (folder / "metrics.jsonl").is_file():
        raise FileNotFoundError(
            f"{folder / 'metrics.jsonl'} is not there: name the folder of a run, such as "
            "runs/NAME; `mario-dreamer runs` lists them."
        )
    history = History(folder.resolve().name, read_info(folder / "run.json"))
    if (folder / "config.yaml").is_file():
        with contextlib.suppress(yaml.YAMLError):
            found = yaml.safe_load((folder / "config.yaml").read_text("utf-8", "replace"))
            history.config = found if isinstance(found, dict) else {}
    env = history.config.get("env")
    repeat = env.get("action_repeat", 1) if isinstance(env, dict) else 1
    worked, before = 0.0, None
    for row in read_reports(folder):
        now = row.pop("time", before)
        if before is not None and 0 < now - before < PAUSE:
            worked += now - before
        before = now
        place = {"step": row["step"], "frames": row["step"] * repeat, "hours": worked / 3600}
        if "play/return" in row:
            names = [name for name in ("return", "length", "x_max", "flag") if f"play/{name}" in row]
            history.episodes.append(place | {name: row[f"play/{name}"] for name in names})
        else:
            history.reports.append(place | row)
    return history
