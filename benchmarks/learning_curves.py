"""Collect the training episodes of finished or running runs into one CSV that can be published.

    python benchmarks/learning_curves.py runs/laptop-seed0 runs/laptop-seed1 --out laptop_1-1
    python benchmarks/learning_curves.py --train experiment=laptop --seeds 0 1 2 --out laptop_1-1

The first form reads runs that are there; the second trains them first, one after the other.
Writes benchmarks/results/<out>.csv (seed,step,frames,hours,return,x_max,flag,length; one line per
episode) and <out>.md with command, commit, machine and versions. Draw it with plot.py.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from omegaconf import OmegaConf

from mario_dreamer.tracking.provenance import provenance

RESULTS = Path(__file__).resolve().parent / "results"
COLUMNS = ("seed", "step", "frames", "hours", "return", "x_max", "flag", "length")
PAUSE = 1800.0  # seconds without a line mean that the run was interrupted


def episodes(folder: Path) -> Iterator[dict[str, float]]:
    """Read a run's training episodes, with the hours it had been at work.

    Args:
        folder: a run's folder, with metrics.jsonl and config.yaml.
    """
    cfg = OmegaConf.load(folder / "config.yaml")
    repeat, seed = cfg.env.get("action_repeat", 1), cfg.seed
    worked, before = 0.0, None
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if before is not None and entry["time"] - before < PAUSE:
            worked += entry["time"] - before
        before = entry["time"]
        if "play/return" in entry:
            yield {
                "seed": seed,
                "step": entry["step"],
                "frames": entry["step"] * repeat,
                "hours": round(worked / 3600, 4),
                "return": entry["play/return"],
                "x_max": entry.get("play/x_max", ""),
                "flag": entry.get("play/flag", ""),
                "length": entry["play/length"],
            }


def train(overrides: list[str], seeds: list[int], out: str) -> list[Path]:
    """Train one run per seed, one after the other; return their folders."""
    folders = []
    for seed in seeds:
        name = f"{out}-seed{seed}"
        command = [sys.executable, "-m", "mario_dreamer.train", *overrides]
        subprocess.run([*command, f"seed={seed}", f"name={name}"], check=True)
        folders.append(Path("runs") / name)
    return folders


def main() -> None:
    """Run the script; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--train", nargs="*", default=None, metavar="OVERRIDE")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--out", required=True, help="name of the result, without ending")
    parser.add_argument("--note", default="", help="a remark for the .md")
    arguments = parser.parse_args()
    runs = list(arguments.runs)
    if arguments.train is not None:
        runs += train(arguments.train, arguments.seeds, arguments.out)
    if not runs:
        parser.error("name run folders, or train some with --train")
    rows = [row for folder in runs for row in episodes(folder)]
    with (RESULTS / f"{arguments.out}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    facts = {**provenance(), "date": time.strftime("%Y-%m-%d"), "runs": len(runs)}
    lines = [f"# {arguments.out}", "", arguments.note, ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    (RESULTS / f"{arguments.out}.md").write_text("\n".join(lines) + "\n")
    print(f"{len(rows)} episodes of {len(runs)} runs -> {RESULTS / arguments.out}.csv")


if __name__ == "__main__":
    main()
