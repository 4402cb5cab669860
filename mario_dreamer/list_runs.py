"""mario-dreamer runs: list the runs of this machine, newest first.

    mario-dreamer runs
    mario-dreamer runs --runs-dir /data/runs

For each: status, agent steps, updates, best x, flag rate of the last episodes, and its folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

__all__ = ["main", "summary_of"]

SHOWN = {
    "run/agent_steps": "steps",
    "run/updates": "updates",
    "play/return_mean": "return",
    "play/x_best": "best x",
    "play/flag_rate": "flag rate",
}


def summary_of(folder: Path) -> dict[str, Any]:
    """Read what a run's own files say; a damaged line is passed over.

    Args:
        folder: the run's folder, with run.json and metrics.jsonl.

    Returns:
        `name`, `status`, and the last value of each metric of `SHOWN` that was logged.
    """
    try:
        status = json.loads((folder / "run.json").read_text()).get("status", "?")
    except (OSError, json.JSONDecodeError):
        status = "?"
    last: dict[str, float] = {}
    try:
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            values = entry.get("values", entry)
            last.update({name: float(values[name]) for name in SHOWN if name in values})
    except OSError:
        pass
    return {"name": folder.name, "status": status, **{SHOWN[k]: v for k, v in last.items()}}


def main() -> None:
    """Run the command; see the top of this file."""
    parser = argparse.ArgumentParser(prog="mario-dreamer runs", description=__doc__)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    runs_dir = parser.parse_args().runs_dir
    folders = [path.parent for path in runs_dir.glob("*/run.json")]
    folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    if not folders:
        print(f"no runs in {runs_dir.resolve()}; start one with: mario-dreamer train")
        return
    columns = ["status", *SHOWN.values(), "name"]
    print("  ".join(f"{column:>9}" for column in columns))
    for folder in folders:
        summary = summary_of(folder)
        cells = []
        for column in columns:
            value = summary.get(column, "-")
            cells.append(f"{value:.4g}" if isinstance(value, float) else str(value))
        print("  ".join(f"{cell:>9}" for cell in cells))


if __name__ == "__main__":
    main()
