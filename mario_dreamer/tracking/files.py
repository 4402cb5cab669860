"""Log a run as plain files in its folder, safe against crashes and full disks.

metrics.jsonl   one line per report: {"step": 1200, "time": 1.7e9, "kl": 3.1, ...}
metrics.csv     one line per number: step,name,value,time
params.json     the flattened configuration
run.json        run id, name, status, begin and end, tags; `earlier`: the same of each start before
videos, images, artifacts
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

from mario_dreamer.tracking.append_only import AppendOnly, is_number, parse_row, read_rows
from mario_dreamer.tracking.atomic_file import write_text
from mario_dreamer.tracking.tracker import Tracker


def _write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


_OF_A_START = ("started", "resumed", "ended", "status", "tags")


class FileTracker(Tracker):
    """Write the run into files of its folder; a resumed run appends.

    Args:
        folder: the run's folder; it is made.
        run_id: run to go on with; None: that of the folder, or a new one.
    """

    def __init__(
        self,
        folder: str | Path = ".",
        run_name: str | None = None,
        run_id: str | None = None,
        jsonl: bool = True,
        csv: bool = True,
    ) -> None:
        super().__init__(folder, run_name, run_id)
        self._files: dict[str, AppendOnly] = {}
        if jsonl:
            self._files["jsonl"] = AppendOnly(self.folder / "metrics.jsonl")
        if csv:
            self._files["csv"] = AppendOnly(self.folder / "metrics.csv", "step,name,value,time\n")
        self._info: dict[str, Any] = {}
        self._guard("start", self._begin)

    def _begin(self) -> None:
        """Read what an earlier start left in run.json; keep its command and commit."""
        path = self.folder / "run.json"
        left = read_info(path)
        self._info = {"run_id": None, "started": time.time(), "tags": {}} | left
        if left:
            start = {name: left[name] for name in _OF_A_START if name in left}
            self._info["tags"] = dict(self._info["tags"])  # those of this start
            earlier = left.get("earlier") if isinstance(left.get("earlier"), list) else []
            self._info["earlier"] = [*earlier, start]
            self._info["resumed"] = time.time()
        self._run_id = self._run_id or self._info["run_id"] or uuid.uuid4().hex
        self._info |= {"run_id": self._run_id, "name": self.run_name, "pid": os.getpid()}
        self._info |= {"status": "RUNNING", "ended": None}
        _write_json(path, self._info)

    def _params(self, flat: dict[str, str]) -> None:
        _write_json(self.folder / "params.json", flat)

    def _scalars(self, values: dict[str, float], step: int, now: float) -> None:
        row = {"step": step, "time": round(now, 3)}
        # JSON knows neither NaN nor infinity: they are written as text that `float` reads.
        row |= {name: x if math.isfinite(x) else str(x) for name, x in values.items()}
        lines = [f"{step},{name},{value!r},{now:.3f}\n" for name, value in values.items()]
        texts = {"jsonl": json.dumps(row) + "\n", "csv": "".join(lines)}
        with contextlib.ExitStack() as stack:  # each is tried, also when another one fails
            for kind, file in self._files.items():
                stack.callback(file.append, texts[kind])

    def _tags(self, tags: dict[str, str]) -> None:
        self._info.setdefault("tags", {}).update(tags)
        _write_json(self.folder / "run.json", self._info)

    def _file(self, path: Path, folder: str, name: str | None, step: int | None) -> None:
        """Copy what lies outside the run's folder into `artifacts`."""
        if path.resolve().is_relative_to(self.folder.resolve()):
            return
        target = self.folder / "artifacts" / folder / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
        else:
            shutil.copy2(path, target)

    def _truncate(self, step: int, since: float) -> None:
        end = (step, round(since, 3))  # as `_scalars` writes the time
        for left_over in (*self.folder.glob("*/**/.step_*"), *self.folder.glob(".*.draft*")):
            left_over.unlink()  # films and files that a kill left half-written
        for file in self._files.values():
            file.keep_lines(lambda line: _when(line) <= end)

    def _close(self, status: str) -> None:
        self._info |= {"status": status, "ended": time.time()}
        with contextlib.ExitStack() as stack:
            stack.callback(_write_json, self.folder / "run.json", self._info)
            for file in self._files.values():
                stack.callback(file.flush)


def read_info(path: Path) -> dict[str, Any]:
    """Read run.json; empty where it is not there, cannot be read, or is not ours."""
    try:
        text = path.read_text("utf-8", "replace") if path.is_file() else ""
    except OSError:
        return {}
    found = parse_row(text) or {}
    if not isinstance(found.get("run_id"), str):
        found.pop("run_id", None)
    return found if isinstance(found.get("tags", {}), dict) else {}


def _has_step(row: dict[str, Any]) -> bool:
    return isinstance(row.get("step"), int | float)


def _when(line: str) -> tuple[float, float]:
    """Step and time of a line of metrics.jsonl or metrics.csv; endless for a broken one."""
    try:
        if (row := parse_row(line)) is not None:
            return (row["step"], row.get("time", 0.0)) if _has_step(row) else (math.inf, 0.0)
        return int(line.split(",", 1)[0]), float(line.rsplit(",", 1)[-1])
    except ValueError:
        return math.inf, 0.0


def read_reports(folder: str | Path) -> list[dict[str, float]]:
    """Read the lines of a run's metrics.jsonl: `step`, `time`, and the numbers logged at it.

    Where a resumed run went back to an earlier step, its new lines replace the old ones.

    Raises:
        FileNotFoundError: when there is no metrics.jsonl.
    """
    rows: list[dict[str, float]] = []
    for row in filter(_has_step, read_rows(Path(folder) / "metrics.jsonl")):
        step = row.pop("step")
        if rows and step < rows[-1]["step"]:
            rows = [earlier for earlier in rows if earlier["step"] < step]
        values = {name: float(value) for name, value in row.items() if is_number(value)}
        rows.append({"step": step, **values})
    return rows


def read_metrics(folder: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Read the curves of a run: metric name -> (step, value) with rising steps.

    The lines are those of `read_reports`; of several values at a step the last one counts.
    """
    curves: dict[str, dict[int, float]] = {}
    for row in read_reports(folder):
        step, _ = row.pop("step"), row.pop("time", None)
        for name, value in row.items():
            curves.setdefault(name, {})[step] = value
    return {name: list(curve.items()) for name, curve in curves.items()}
