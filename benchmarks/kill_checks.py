"""What must hold of a run that is killed and resumed; used by kills.py and the tests.

Everything is compared with an unbroken run of the same seed.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import verify

MACHINE = ("system/", "speed/", "run/memory_gib", "eval/seconds")
APART = {"run_id"}  # of the checkpoint: every run has a name of its own


def is_machine(name: str) -> bool:
    """Whether a metric tells about the machine, and so differs in every repetition."""
    return name.startswith(MACHINE)


def differences(one: Any, two: Any, where: str = "") -> list[str]:
    """Name every place where two nests of tensors and plain Python are not bit for bit equal."""
    if type(one) is not type(two):
        return [f"{where}: {type(one).__name__} and {type(two).__name__}"]
    if isinstance(one, dict):
        found = [f"{where}/{key}: only in one" for key in set(one) ^ set(two)]
        for key in set(one) & set(two) - APART:
            found += differences(one[key], two[key], f"{where}/{key}")
        return found
    if isinstance(one, list | tuple):
        if len(one) != len(two):
            return [f"{where}: {len(one)} and {len(two)} long"]
        pairs = enumerate(zip(one, two, strict=True))
        return [text for i, (a, b) in pairs for text in differences(a, b, f"{where}/{i}")]
    if isinstance(one, torch.Tensor):
        same = one.dtype == two.dtype and one.shape == two.shape
        # Bits, not values: NaN is equal to itself here, and 0.0 is not -0.0.
        same = same and _bits(one) == _bits(two)
        return [] if same else [f"{where}: tensors of {list(one.shape)} differ"]
    if isinstance(one, float) and math.isnan(one) and math.isnan(two):
        return []
    return [] if one == two else [f"{where}: {one!r} and {two!r}"]


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def load(path: Path) -> dict[str, Any]:
    """Read all of a checkpoint."""
    stems = ("agent", "learning", "replay")
    return {stem: torch.load(path / f"{stem}.pt", weights_only=True) for stem in stems}


def rows(folder: Path) -> list[tuple[int, dict[str, Any]]]:
    """Read metrics.jsonl, half a last line left out: (step, what does not depend on the machine)."""
    found = []
    file = folder / "metrics.jsonl"
    for line in file.read_text().splitlines(keepends=True) if file.is_file() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        shown = {name: value for name, value in row.items() if not is_machine(name)}
        shown.pop("time")
        found.append((row["step"], shown))
    return found


def mlflow_points(database: Path) -> tuple[int, Counter, list[str]]:
    """Read sqlite: number of runs, (name, step, value) of each point, statuses."""
    if not database.is_file():
        return 0, Counter(), []
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30) as base:
        try:
            statuses = [row[0] for row in base.execute("select status from runs")]
            points = Counter(base.execute("select key, step, value from metrics").fetchall())
        except sqlite3.OperationalError:  # it died while the tables were made
            return 0, Counter(), []
    return len(statuses), points, statuses


def rubbish(folder: Path) -> list[str]:
    """Name files that only a running process should have."""
    found = (*folder.rglob(".*"), *folder.rglob("tmp*"))
    return sorted(str(path.relative_to(folder)) for path in found)


class Reference:
    """An unbroken run, to compare with.

    Args:
        folder: its folder.
        database: its MLflow database.
    """

    def __init__(self, folder: Path, database: Path) -> None:
        newest = Checkpoints(folder / "checkpoints").latest()
        assert newest is not None, f"the reference {folder} has not been made"
        self.name = newest.name
        self.checkpoint = load(newest)
        self.rows = rows(folder)
        _, self.points, _ = mlflow_points(database)
        # MLflow keeps one of two equal points of one millisecond, so the file is what counts.
        shown = [(n, step, v) for step, row in self.rows for n, v in row.items() if n != "step"]
        self.shown = Counter(shown) | Counter(p for p in self.points if is_machine(p[0]))

    def partial(self, folder: Path, database: Path) -> list[str]:
        """Say what is wrong with a run that has just been killed; nothing, if all is well."""
        wrong = []
        newest = Checkpoints(folder / "checkpoints").latest()
        step = int(newest.name[5:14]) if newest is not None else 0
        shown = rows(folder)
        before = [row for row in shown if row[0] <= step]
        expected = [row for row in self.rows if row[0] <= step]
        saved = load(newest) if newest is not None else None
        # The row of an evaluation that began with the save may be missing: a resume repeats it.
        is_cut_off = saved is not None and saved["learning"]["loop"]["evaluating"]
        if before != expected and not (is_cut_off and before == expected[:-1]):
            wrong.append(f"metrics.jsonl up to the save: {len(before)} rows, {len(expected)} due")
        if shown != self.rows[: len(shown)]:
            wrong.append("metrics.jsonl: rows twice, missing or different")
        runs, points, _ = mlflow_points(database)
        if runs > 1:
            wrong.append(f"MLflow: {runs} runs")
        wrong += self._beyond(points)
        if saved is not None:
            wrong += self._replay(saved["replay"])
        return wrong

    def _beyond(self, points: Counter) -> list[str]:
        """MLflow's points that the unbroken run does not have, or has less often."""
        shown = Counter({key: n for key, n in points.items() if not is_machine(key[0])})
        extra = shown - self.shown
        machine = Counter((name, step) for name, step, _ in points.elements() if is_machine(name))
        mine = Counter((n, s) for n, s, _ in self.points.elements() if is_machine(n))
        # The machine is looked at by the clock, on a slow one more than once a step.
        twice = {key for key in machine - mine if not key[0].startswith("system/")}
        found = [f"MLflow: points too many: {sorted(extra)[:3]}"] if extra else []
        return found + ([f"MLflow: points twice: {sorted(twice)[:3]}"] if twice else [])

    def _replay(self, state: dict[str, Any]) -> list[str]:
        """Records of a save against those of the whole run, which has forgotten none."""
        mine, wrong = self.checkpoint["replay"], []
        ends, starts = mine["streams"]["written"], state["streams"]["written"]
        if sum(starts) != len(state["records"]["reward"]):
            wrong.append(f"replay: {sum(starts)} records written, not all are there")
        at, there = 0, 0
        for end, count in zip(ends, starts, strict=True):
            for key, values in state["records"].items():
                if key in ("prev_deter", "prev_stoch"):  # learned again all the time
                    continue
                if not torch.equal(
                    values[there : there + count], mine["records"][key][at:][:count]
                ):
                    wrong.append(f"replay: {key} differs")
            at, there = at + end, there + count
        return wrong

    def whole(self, folder: Path, database: Path) -> list[str]:
        """Say how a finished run differs from the unbroken one; nothing, if it is the same."""
        newest = Checkpoints(folder / "checkpoints").latest()
        if newest is None or newest.name != self.name:
            return [f"it ended with {newest}, expected {self.name}"]
        wrong = differences(load(newest), self.checkpoint)
        damaged = [path.name for path in newest.parent.glob("step_*") if verify(path)]
        wrong += [f"damaged checkpoints are left: {damaged}"] if damaged else []
        wrong += [f"rubbish is left: {rubbish(folder)}"] if rubbish(folder) else []
        if rows(folder) != self.rows:
            wrong.append(f"metrics.jsonl: {len(rows(folder))} rows, expected {len(self.rows)}")
        runs, points, statuses = mlflow_points(database)
        if (runs, statuses) != (1, ["FINISHED"]):
            wrong.append(f"MLflow: runs {statuses}, expected one that is FINISHED")
        wrong += self._beyond(points)
        missing = set(self.points) - set(points)  # of equal points MLflow may keep one
        gaps = [key for key in missing if not is_machine(key[0])]
        have = {(name, step) for name, step, _ in points}
        gaps += [
            (name, step)
            for name, step, _ in self.points
            if name.startswith("speed/") and (name, step) not in have
        ]
        return wrong + ([f"MLflow: {len(gaps)} points missing: {sorted(gaps)[:3]}"] if gaps else [])
