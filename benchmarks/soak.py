"""Watch a training for hours: does its memory stay flat, its handles few, its speed the same?

    python benchmarks/soak.py runs/NAME --minutes 120 --out soak_laptop_202611
    python benchmarks/soak.py --pid 4242 --minutes 10         any process, no run folder
    python benchmarks/soak.py --report soak_laptop_202611     the slopes once more

Looks once a minute at /proc (resident memory, file handles, threads, processor time) and at the
run's metrics.jsonl (steps, updates, records), until the time is over or the process ends. The
process is the one that the run's `lock.pid` file names. Writes benchmarks/results/<out>.csv as it
goes, and <out>.md with the slopes at the end; Ctrl-C ends it early and writes both.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from pathlib import Path

import numpy as np
from run_script import run_script

RESULTS = Path(__file__).resolve().parent / "results"
COLUMNS = (
    "minutes", "rss_gib", "rss_peak_gib", "anonymous_gib", "file_handles", "threads",
    "cpu_seconds", "load_1m", "agent_steps", "updates", "replay_size",
)  # fmt: skip
GIB = 2**30
TICKS = os.sysconf("SC_CLK_TCK")


def process(pid: int) -> dict[str, float]:
    """Look at a process in /proc.

    Raises:
        OSError: when it is not there (any more).
    """
    home = Path(f"/proc/{pid}")
    lines = (home / "status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines if ":" in line)
    if status["State"].split()[0] == "Z" or "VmRSS" not in status:
        raise ProcessLookupError(f"process {pid} has ended")
    # The name stands in brackets and may hold blanks: count from behind it.
    times = (home / "stat").read_text().rpartition(")")[2].split()

    def gib(name: str) -> float:
        return round(int(status[name].split()[0]) * 1024 / GIB, 5)

    return {
        "rss_gib": gib("VmRSS"),
        "rss_peak_gib": gib("VmHWM"),
        "anonymous_gib": gib("RssAnon"),
        "file_handles": len(list((home / "fd").iterdir())),
        "threads": int(status["Threads"]),
        "cpu_seconds": (int(times[11]) + int(times[12])) / TICKS,
    }


def progress(folder: Path | None) -> dict[str, float]:
    """Read the last report of a run: steps, updates, records; empty when there is none."""
    found: dict[str, float] = {}
    if folder is None or not (folder / "metrics.jsonl").is_file():
        return found
    for line in reversed((folder / "metrics.jsonl").read_text(errors="replace").splitlines()):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # it is being written now
            continue
        found.setdefault("agent_steps", row["step"])
        if "run/updates" in row:
            found |= {"updates": row["run/updates"], "replay_size": row["run/replay_size"]}
            break
    return found


def watch(pid: int, folder: Path | None, out: Path, minutes: float, every: float) -> None:
    """Write a line every so many seconds, until the time is over or the process ends."""
    began = time.monotonic()
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        try:
            while (passed := (time.monotonic() - began) / 60) <= minutes:
                try:
                    seen = process(pid)
                except OSError:
                    print(f"process {pid} has ended")
                    return
                seen |= {"minutes": round(passed, 3), "load_1m": round(os.getloadavg()[0], 2)}
                writer.writerow(seen | progress(folder))
                file.flush()
                time.sleep(every)
        except KeyboardInterrupt:
            print("ended early")


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Rise of the least-squares line; 0 for fewer than two points."""
    return float(np.polyfit(x, y, 1)[0]) if len(x) > 1 and np.ptp(x) > 0 else 0.0


def halves(minutes: np.ndarray, updates: np.ndarray, cpu: np.ndarray) -> dict[str, float]:
    """Compare updates per second in the first and the last quarter, and the two halves.

    Reports come in lumps, so a rate is taken from the first to the last change inside a part.
    """
    found = {}
    change = np.flatnonzero(np.diff(updates, prepend=np.nan) > 0)
    parts = {"first quarter": (0, 0.25), "last quarter": (0.75, 1), "first half": (0, 0.5),
             "last half": (0.5, 1)}  # fmt: skip
    total = minutes[-1]
    for name, (low, high) in parts.items():
        inside = change[(minutes[change] >= low * total) & (minutes[change] <= high * total)]
        if len(inside) > 1:
            a, b = inside[0], inside[-1]
            made = updates[b] - updates[a]
            found[f"updates_per_s, {name}"] = made / (60 * (minutes[b] - minutes[a]))
            if cpu[b] > cpu[a]:
                found[f"updates_per_cpu_s, {name}"] = made / (cpu[b] - cpu[a])
    for kind in ("updates_per_s", "updates_per_cpu_s"):
        for part in ("quarter", "half"):
            first, last = found.get(f"{kind}, first {part}"), found.get(f"{kind}, last {part}")
            if first and last:
                found[f"{kind}, last {part} / first {part}"] = last / first
    return found


def summary(path: Path) -> dict[str, float]:
    """Slopes and ratios of a watch, by name."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    if len(rows) < 3:
        raise SystemExit(f"{path} holds {len(rows)} lines: too few for a slope.")
    data = {name: np.array([float(row[name] or "nan") for row in rows]) for name in COLUMNS}
    hours = data["minutes"] / 60
    found: dict[str, float] = {"minutes watched": float(data["minutes"][-1])}
    size = data["replay_size"]
    full = len(hours) // 2  # where replay never fills: the last half
    if np.isfinite(size).any():
        top = np.nanmax(size)
        reached = int(np.flatnonzero(size >= top)[0])
        if reached < full:  # it had stopped growing before half-time
            full = reached
            found["replay full since minute"] = float(data["minutes"][reached])
        found["replay_size at the end"] = float(top)
        grown = slope(hours[full:], np.nan_to_num(size[full:], nan=top))
        found["replay_size slope after that, records/h"] = grown
    for name, unit in (("rss_gib", "MiB/h"), ("anonymous_gib", "MiB/h"), ("file_handles", "1/h"),
                       ("threads", "1/h")):  # fmt: skip
        factor = 1024 if unit == "MiB/h" else 1
        found[f"{name} slope, all, {unit}"] = slope(hours, data[name]) * factor
        found[f"{name} slope, after replay full or last half, {unit}"] = (
            slope(hours[full:], data[name][full:]) * factor
        )
    found["rss_gib first"], found["rss_gib last"] = data["rss_gib"][0], data["rss_gib"][-1]
    found["file_handles least"] = float(data["file_handles"].min())
    found["file_handles most"] = float(data["file_handles"].max())
    found["load_1m mean"] = float(data["load_1m"].mean())
    if np.isfinite(data["updates"]).sum() > 2:
        found |= halves(data["minutes"], data["updates"], data["cpu_seconds"])
    return found


def write_report(path: Path, facts: dict[str, str]) -> str:
    """Write <out>.md next to the CSV; return its text."""
    lines = [f"# {path.stem}", ""]
    lines += [f"- {name}: {text}" for name, text in facts.items()]
    lines += ["", "| what | measured |", "|---|---|"]
    lines += [f"| {name} | {value:.5g} |" for name, value in summary(path).items()]
    text = "\n".join(lines) + "\n"
    path.with_suffix(".md").write_text(text)
    return text


def main() -> None:
    """Run the script; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="the run's folder")
    parser.add_argument("--pid", type=int, help="the process; otherwise the run's lock.pid says")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--every", type=float, default=60, help="seconds between two looks")
    parser.add_argument("--out", default=f"soak_{time.strftime('%Y%m')}")
    parser.add_argument("--report", help="only summarise benchmarks/results/<this>.csv")
    arguments = parser.parse_args()
    if arguments.report:
        for name, value in summary(RESULTS / f"{arguments.report}.csv").items():
            print(f"{name}: {value:.5g}")
        return
    folder, pid = arguments.folder, arguments.pid
    if pid is None:
        if folder is None or not (folder / "lock.pid").is_file():
            parser.error("give a run's folder (with its `lock.pid`) or --pid")
        pid = int((folder / "lock.pid").read_text())
    if not Path(f"/proc/{pid}").is_dir():  # before an earlier watch of this name is written over
        parser.error(f"process {pid} has ended; --report NAME shows what was seen of it")
    from mario_dreamer.tracking.provenance import provenance  # needs git, once

    facts = provenance() | {"date": time.strftime("%Y-%m-%d %H:%M"), "pid": str(pid)}
    path = RESULTS / f"{arguments.out}.csv"
    watch(pid, folder, path, arguments.minutes, arguments.every)
    print(write_report(path, facts))


if __name__ == "__main__":
    run_script(main)
