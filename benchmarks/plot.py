"""Draw benchmarks/results/*.csv into benchmarks/figures/*.png.

    python benchmarks/plot.py curves laptop_1-1        return, best x and flags, every run drawn
    python benchmarks/plot.py table update_cpu_202611  a CSV as a Markdown table, to the screen

Curves stand over agent steps (frames on top) and over hours at work; the caption below them has
command, commit, machine and date from the .md beside the CSV.
"""

from __future__ import annotations

import argparse
import csv
import textwrap
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from mario_dreamer.training.evaluation import wilson_interval

HERE = Path(__file__).resolve().parent
WINDOW = 20  # episodes in the running mean
PANELS = (("return", "return"), ("x_max", "furthest x"), ("flag", "flag rate"))
AXES = (("step", "agent steps (thousands)"), ("hours", "hours at work"))


def read(name: str, results: Path = HERE / "results") -> list[dict[str, str]]:
    """Read benchmarks/results/<name>.csv."""
    with (results / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def runs_of(rows: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """Sort episodes by run; runs of different seeds are named by the seed alone."""
    runs: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        runs[row.get("run", ""), row["seed"]].append(row)
    seeds = [seed for _, seed in runs]
    alone = len(set(seeds)) == len(seeds)
    return {f"seed {s}" if alone else f"{run} (seed {s})": rs for (run, s), rs in runs.items()}


def running_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last WINDOW values, fewer at the beginning."""
    total = np.cumsum(np.concatenate([[0.0], values]))
    first = np.maximum(np.arange(1, len(values) + 1) - WINDOW, 0)
    last = np.arange(1, len(values) + 1)
    return (total[last] - total[first]) / (last - first)


def interval(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval of the flag rate over the last WINDOW episodes, at each episode."""
    ends = []
    for i in range(len(flags)):
        recent = flags[max(0, i + 1 - WINDOW) : i + 1]
        ends.append(wilson_interval(round(float(recent.sum())), len(recent)))
    low, high = zip(*ends, strict=True)
    return np.array(low), np.array(high)


def caption(name: str, results: Path = HERE / "results") -> str:
    """Say in a few lines where the curves come from: command, commit, machine, date."""
    path = results / f"{name}.md"
    found: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text().splitlines() if path.is_file() else []:
        key, colon, value = line.removeprefix("- ").partition(": ")
        if line.startswith("- ") and colon and value not in found[key]:
            found[key].append(value)
    commits = [commit[:12] for commit in found["git.commit"]]
    if "true" in found["git.dirty"]:
        commits.append("with local changes")
    if not commits and found["collected at commit"]:  # trained from a copy outside of git
        commits = [f"not recorded by the run; collected at {found['collected at commit'][0][:12]}"]
    machines = [*found["machine.cpu"], *(gpu for gpu in found["machine.gpu"] if gpu != "none")]
    parts = {
        "command": found["command"], "commit": commits, "machine": machines,
        "date": found["date"],
    }  # fmt: skip
    told = [f"{key}: {'; '.join(values)}" for key, values in parts.items() if values]
    return "\n".join(line for text in told for line in textwrap.wrap(text, 150))


def _thousands(ratio: float) -> tuple:
    return (lambda x: x * ratio, lambda x: x / ratio)


def curves(name: str, results: Path = HERE / "results", figures: Path = HERE / "figures") -> Path:
    """Draw a learning curve: a column per metric; over steps and frames, and over hours.

    Args:
        name: of the CSV, without ending.
        results: where it lies.
        figures: where the picture goes.
    """
    rows = read(name, results)
    panels = [(key, title) for key, title in PANELS if rows[0][key] != ""]
    figure, axes = plt.subplots(2, len(panels), figsize=(4.4 * len(panels), 6.6), squeeze=False)
    ratio = next((float(r["frames"]) / float(r["step"]) for r in rows if float(r["step"])), 1.0)
    for number, (label, run) in enumerate(runs_of(rows).items()):
        colour = f"C{number}"
        for column, (key, title) in enumerate(panels):
            values = np.array([float(row[key]) for row in run])
            for line, (over, x_label) in enumerate(AXES):
                x = np.array([float(row[over]) for row in run]) / (1000 if over == "step" else 1)
                axis = axes[line, column]
                if key == "flag":
                    axis.fill_between(x, *interval(values), color=colour, alpha=0.12, linewidth=0)
                    axis.set_ylim(-0.02, 1.02)
                else:
                    axis.plot(x, values, ".", markersize=2, alpha=0.2, color=colour)
                axis.plot(x, running_mean(values), label=label, color=colour)
                axis.set_xlabel(x_label)
                axis.set_ylabel(f"{title}, mean of {WINDOW} episodes", fontsize=9)
                axis.grid(alpha=0.3)
    for axis in axes[0]:
        above = axis.secondary_xaxis("top", functions=_thousands(ratio))
        above.set_xlabel("frames (thousands)", fontsize=9)
    axes[0, 0].legend(fontsize=8)
    told = caption(name, results)
    below = 0.02 + 0.022 * (told.count("\n") + 1)
    figure.tight_layout(rect=(0, below, 1, 1))
    figure.text(0.01, 0.01, told, fontsize=7, va="bottom", family="monospace", color="#555555")
    path = figures / f"{name}.png"
    figure.savefig(path, dpi=90)
    return path


def table(name: str) -> str:
    """Write a CSV as a Markdown table."""
    rows = read(name)
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row[key] for key in head) + " |" for row in rows])


def main() -> None:
    """Run the script; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("curves", "table"))
    parser.add_argument("name", help="a file of benchmarks/results, without ending")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--figures", type=Path, default=HERE / "figures")
    arguments = parser.parse_args()
    if arguments.what == "table":
        print(table(arguments.name))
    else:
        print(curves(arguments.name, arguments.results, arguments.figures))


if __name__ == "__main__":
    main()
