"""Collect the training episodes of finished or running runs into one CSV that can be published.

    python benchmarks/learning_curves.py runs/laptop-seed0 runs/laptop-seed1 --out laptop_1-1
    python benchmarks/learning_curves.py --train experiment=laptop --seeds 0 1 2 --out laptop_1-1

The first form reads runs that are there, as many as are named; the second trains them first, one
after the other. Writes benchmarks/results/<out>.csv (run,seed,step,frames,hours,return,x_max,flag,
length; one line per episode) and <out>.md with each run's command, commit, machine and dates, as
the run itself wrote them down when it was trained. Draw it with plot.py.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from result_tables import write_rows
from run_script import run_script

from mario_dreamer.reporting.history import History, read_history
from mario_dreamer.tracking.provenance import provenance

RESULTS = Path(__file__).resolve().parent / "results"
COLUMNS = ("run", "seed", "step", "frames", "hours", "return", "x_max", "flag", "length")


def rows_of(history: History) -> list[dict[str, float | str]]:
    """One row per training episode of a run; empty cells where its world does not tell.

    Args:
        history: of the run.
    """
    place = {"run": history.name, "seed": history.config.get("seed", "")}
    rows = []
    for episode in history.episodes:
        row = {**place, **episode, "hours": round(episode["hours"], 4)}
        rows.append({column: row.get(column, "") for column in COLUMNS})
    return rows


def facts_of(history: History) -> dict[str, str]:
    """What a run says of itself: seed, how far it came, how it ended, where it was trained."""
    episodes = history.episodes
    flags = sum(episode.get("flag", 0.0) for episode in episodes)
    facts = {
        "seed": history.config.get("seed", "unknown"),
        "status": history.info.get("status", "unknown"),
        "agent steps": f"{max((e['step'] for e in episodes), default=0):.0f}",
        "hours at work": f"{max((e['hours'] for e in episodes), default=0.0):.2f}",
        "training episodes": f"{len(episodes)}, {flags:.0f} with the flag",
    }
    if history.info.get("started"):
        facts["started"] = time.strftime("%Y-%m-%d %H:%M", time.gmtime(history.info["started"]))
    facts["seed"] = str(facts["seed"])
    facts |= history.info.get("tags", {})
    for number, start in enumerate(history.info.get("earlier", []), 1):
        tags = start.get("tags", {})
        shown = f"{tags.get('command', 'unknown')} at {tags.get('git.commit', 'unknown')}"
        facts[f"command of start {number}, gone on from"] = shown
    return facts


def train(overrides: list[str], seeds: list[int], out: str) -> list[Path]:
    """Train one run per seed, one after the other; return their folders."""
    folders = []
    typed = [word.split("=", 1)[1] for word in overrides if word.startswith("runs_dir=")]
    for seed in seeds:
        name = f"{out}-seed{seed}"
        command = [sys.executable, "-m", "mario_dreamer", "train", *overrides]
        subprocess.run([*command, f"seed={seed}", f"name={name}"], check=True)
        folders.append(Path(*typed or ["runs"], name))
    return folders


def describe(out: str, note: str, runs: list[History]) -> str:
    """Write the .md next to the CSV."""
    here = provenance()
    lines = [f"# {out}", "", note, "", f"- date: {time.strftime('%Y-%m-%d')}"]
    lines += [f"- runs: {len(runs)}", f"- collected by: {here['command']}"]
    lines += [f"- collected at commit: {here.get('git.commit', 'unknown')}"]
    for history in runs:
        lines += ["", f"## {history.name}", ""]
        lines += [f"- {name}: {value}" for name, value in facts_of(history).items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the script; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--train", nargs="*", default=None, metavar="OVERRIDE")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--out", required=True, help="name of the result, without ending")
    parser.add_argument("--note", default="", help="a remark for the .md")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result")
    arguments = parser.parse_args()
    folders = list(arguments.runs)
    if arguments.train is not None:
        folders += train(arguments.train, arguments.seeds, arguments.out)
    if not folders:
        parser.error("name run folders, or train some with --train")
    runs = [read_history(folder) for folder in folders]
    rows = [row for history in runs for row in rows_of(history)]
    write_rows(arguments.results / f"{arguments.out}.csv", rows, COLUMNS)
    shown = describe(arguments.out, arguments.note, runs)
    (arguments.results / f"{arguments.out}.md").write_text(shown)
    print(f"{len(rows)} episodes of {len(runs)} runs -> {arguments.results / arguments.out}.csv")


if __name__ == "__main__":
    run_script(main)
