"""Train, evaluate and verify one agent per stage, unattended; go on after a kill.

    python benchmarks/stages.py 1-1 1-3 2-1 --steps 100000 --jobs 2 --out stages_cpu_202611
    python benchmarks/stages.py all --jobs 2 --out stages_cpu_202611     all 32 stages

Each stage has a folder below --runs. Started again, stages that are done are skipped and runs that
were cut off go on from their checkpoint. For each stage: a run of the one-command recipe, an
evaluation of 100 episodes in each condition, one flag verified in the raw emulator, and for a
stage without a flag the place where most episodes end. Writes benchmarks/results/<out>.csv and
<out>.md. Everything after `--` is typed to `mario-dreamer train`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from result_tables import markdown, write_rows
from run_script import run_script

from mario_dreamer.envs.mario.emulator import stages_of
from mario_dreamer.tracking.provenance import provenance

RESULTS = Path(__file__).resolve().parent / "results"
CONDITIONS = ("sampled", "greedy", "sampled-noops", "sampled-sticky")
COLUMNS = ("stage", "agent_steps", *CONDITIONS, "episodes", "mean_x", "flag_verified", "wall")
BIN = 32  # pixels: episodes that end this close to each other ended at the same place


def train_command(stage: str, folder: Path, options: list[str]) -> list[str]:
    """Return the command that begins a stage's run, or goes on with it.

    Args:
        stage: "w-s".
        folder: of the run.
        options: typed to `train`.
    """
    base = [sys.executable, "-m", "mario_dreamer", "train"]
    if any(folder.glob("checkpoints/step_*")):
        steps = [option for option in options if option.startswith("steps=")]
        return [*base, f"resume={folder}", *steps]
    return [
        *base, "experiment=laptop", f"env.stage={stage}", "threads=1", f"runs_dir={folder.parent}",
        f"name={folder.name}", "eval_every=0", *options,
    ]  # fmt: skip


def evaluate_command(folder: Path, episodes: int) -> list[str]:
    """Return the command that evaluates a stage's newest checkpoint."""
    return [
        sys.executable, "-m", "mario_dreamer", "evaluate", f"checkpoint={folder}",
        f"conditions=[{','.join(CONDITIONS)}]", f"episodes={episodes}", "threads=1",
        f"out={folder / 'evaluation'}", "track=false",
    ]  # fmt: skip


def wall(episodes: list[dict[str, Any]]) -> str:
    """Say where most of the episodes without a flag ended; empty where all reached it.

    Args:
        episodes: stats of each, with `flag`, `x_max` and `terminated`.

    Examples:
        >>> wall([{"flag": 0, "x_max": 780, "terminated": 1}] * 3 + [{"flag": 1, "x_max": 3161}])
        'x 768 to 800, 100 % of the failures, died there'
    """
    failed = [episode for episode in episodes if not episode.get("flag")]
    if not failed:
        return ""
    place, count = Counter(int(e["x_max"]) // BIN for e in failed).most_common(1)[0]
    there = [e for e in failed if int(e["x_max"]) // BIN == place]
    died = sum(bool(e.get("terminated")) for e in there) * 2 >= len(there)
    how = "died there" if died else "stood still"
    share = f"{100 * count / len(failed):.0f} % of the failures"
    return f"x {place * BIN} to {(place + 1) * BIN}, {share}, {how}"


def row_of(stage: str, folder: Path, verified: str) -> dict[str, Any]:
    """Return a stage's line of the table, from the files of its evaluation.

    Args:
        stage: "w-s".
        folder: of the run.
        verified: name of the action list that the raw emulator has verified, or empty.
    """
    found = json.loads((folder / "evaluation" / "results.json").read_text())
    results = {result["name"]: result for result in found["results"]}
    row: dict[str, Any] = {"stage": stage, "agent_steps": found["agent_steps"]}
    for name in CONDITIONS:
        summary = results[name]["summary"]
        low, high = (100 * summary[key] for key in ("flag_low", "flag_high"))
        row[name] = f"{100 * summary['flag_rate']:.0f} ({low:.0f} to {high:.0f})"
    sampled = results["sampled"]
    row["episodes"] = int(sampled["summary"]["episodes"])
    row["mean_x"] = round(sampled["summary"]["x_max"])
    return row | {"flag_verified": verified, "wall": wall(sampled["episodes"])}


def verify(folder: Path) -> str:
    """Replay recorded flags in the raw emulator; return the name of the first that holds."""
    for path in sorted((folder / "evaluation").glob("*-flag-*.json")):
        command = [sys.executable, "-m", "mario_dreamer", "replay", str(path)]
        if "VERIFIED" in subprocess.run(command, capture_output=True, text=True).stdout:
            return path.name
    return ""


def work(stage: str, args: argparse.Namespace) -> dict[str, Any]:
    """Take a stage to its end: train, evaluate, verify; return its row."""
    folder = args.runs / f"stage_{stage}"
    done = folder / "row.json"
    if done.is_file():
        return json.loads(done.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    options = [f"steps={args.steps}", *args.options]
    for command in (train_command(stage, folder, options), evaluate_command(folder, args.episodes)):
        with (folder / "log.txt").open("a") as log:
            subprocess.run(command, stdout=log, stderr=log, env=environment, check=True)
    row = row_of(stage, folder, verify(folder))
    done.write_text(json.dumps(row))
    print(row, flush=True)
    return row


def write(rows: list[dict[str, Any]], out: str, results: Path = RESULTS) -> None:
    """Write the table as CSV and Markdown, with the machine and the command."""
    write_rows(results / f"{out}.csv", rows, COLUMNS)
    lines = [f"# {out}", "", "Flags of 100, with Wilson's 95 % interval.", ""]
    lines += [*markdown(rows, COLUMNS), "", *(f"- {key}: {value}" for key, value in provenance().items())]
    (results / f"{out}.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run the script; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stages", nargs="+", help='such as 1-1 1-3, or "all"')
    parser.add_argument("--runs", type=Path, default=Path("runs/stages"))
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2, help="stages at a time")
    parser.add_argument("--out", required=True, help="name of the files in benchmarks/results")
    typed = sys.argv[1:]
    cut = typed.index("--") if "--" in typed else len(typed)
    args = parser.parse_args(typed[:cut])
    args.options, args.runs = typed[cut + 1 :], args.runs.resolve()
    stages = stages_of("all" if args.stages == ["all"] else args.stages)
    rows, failed = [], []
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = {stage: pool.submit(work, stage, args) for stage in stages}
        for stage, job in jobs.items():
            try:
                rows.append(job.result())
            except (subprocess.CalledProcessError, OSError, KeyError, ValueError) as error:
                print(f"{stage}: {error}; see {args.runs / f'stage_{stage}' / 'log.txt'}")
                failed.append(stage)
            write(rows, args.out)
    if failed:
        raise ValueError(f"{', '.join(failed)} failed. The same command goes on with them.")


if __name__ == "__main__":
    run_script(main)
