"""mario-dreamer runs: list the runs of this machine, newest first.

    mario-dreamer runs
    mario-dreamer runs --runs-dir /data/runs

For each: status, agent steps, updates, best x, flag rate of the last episodes, and its folder.
DIED: it says that it runs, but its process is gone; go on with it by `train resume=FOLDER`.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import sys
from pathlib import Path
from typing import Any

import psutil

from mario_dreamer.tracking.append_only import is_number, parse_row

SHOWN = {
    "run/agent_steps": "steps",
    "run/updates": "updates",
    "play/return_mean": "return",
    "play/x_best": "best x",
    "play/flag_rate": "flag rate",
}


def summary_of(folder: Path) -> dict[str, Any]:
    """Read what a run's own files say; a damaged line is passed over.

    Returns:
        `name`, `status`, and the last value of each metric of `SHOWN` that was logged.
    """
    status = "?"
    with contextlib.suppress(ValueError, TypeError, AttributeError, OverflowError):  # odd files
        status = _status(parse_row(_text(folder / "run.json")) or {})
    last: dict[str, float] = {}
    for row in filter(None, map(parse_row, _text(folder / "metrics.jsonl").splitlines())):
        last |= {SHOWN[name]: float(row[name]) for name in SHOWN if is_number(row.get(name))}
    return {"name": _plain(folder.name), "status": status, **last}


def _text(path: Path) -> str:
    """Read a regular file, if it is one: a pipe or a device would make the reader wait for ever."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return ""


def _plain(text: str) -> str:
    """A text without signs that a terminal obeys."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _status(info: dict[str, Any]) -> str:
    """What run.json says, unless the process that would have changed it is not there any more."""
    status, pid = _plain(str(info.get("status", "?"))), info.get("pid")
    here = (info.get("tags") or {}).get("machine.host") in (None, platform.node())
    if status == "RUNNING" and here and isinstance(pid, int) and pid > 0:
        return status if psutil.pid_exists(pid) else "DIED"
    return status


def _cell(column: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if column in ("steps", "updates") else f"{value:.4g}"


def main() -> None:
    """Run the command; see the top of this file."""
    parser = argparse.ArgumentParser(prog="mario-dreamer runs", description=__doc__)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    words = [f"--runs-dir={x[9:]}" if x.startswith("runs_dir=") else x for x in sys.argv[1:]]
    runs_dir = parser.parse_args(words).runs_dir
    files = sorted(runs_dir.glob("*/run.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    folders = [path.parent for path in files]
    if not folders:
        print(f"no runs in {runs_dir.resolve()}; start one with: mario-dreamer train")
        return
    columns = ["status", *SHOWN.values(), "name"]
    print("  ".join(f"{column:>9}" for column in columns))
    for folder in folders:
        summary = summary_of(folder)
        cells = [_cell(column, summary.get(column, "-")) for column in columns]
        print("  ".join(f"{cell:>9}" for cell in cells))
