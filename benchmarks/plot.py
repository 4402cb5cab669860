"""Draw benchmarks/results/*.csv into benchmarks/figures/*.png.

    python benchmarks/plot.py curves laptop_1-1        return, best x and flags, every seed drawn
    python benchmarks/plot.py table update_cpu_202611  a CSV as a Markdown table, to the screen
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).resolve().parent
WINDOW = 20  # episodes in the running mean
PANELS = (("return", "return"), ("x_max", "furthest x"), ("flag", "flag rate"))


def read(name: str) -> list[dict[str, str]]:
    """Read benchmarks/results/<name>.csv."""
    with (HERE / "results" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def running_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last WINDOW values, fewer at the beginning."""
    total = np.cumsum(np.concatenate([[0.0], values]))
    first = np.maximum(np.arange(1, len(values) + 1) - WINDOW, 0)
    last = np.arange(1, len(values) + 1)
    return (total[last] - total[first]) / (last - first)


def curves(name: str) -> Path:
    """Draw a learning curve: one column per metric, steps above and hours below."""
    seeds: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in read(name):
        seeds[row["seed"]].append(row)
    panels = [(key, title) for key, title in PANELS if next(iter(seeds.values()))[0][key] != ""]
    figure, axes = plt.subplots(2, len(panels), figsize=(4.2 * len(panels), 5.6), squeeze=False)
    for seed, rows in seeds.items():
        for column, (key, title) in enumerate(panels):
            values = np.array([float(row[key]) for row in rows])
            for line, (axis_key, label) in enumerate(
                (("step", "agent steps (thousands)"), ("hours", "hours"))
            ):
                scale = 1000 if axis_key == "step" else 1
                x = np.array([float(row[axis_key]) for row in rows]) / scale
                axis = axes[line, column]
                if key != "flag":
                    axis.plot(x, values, ".", markersize=2, alpha=0.25, color="grey")
                axis.plot(x, running_mean(values), label=f"seed {seed}")
                axis.set_xlabel(label)
                axis.set_title(f"{title}, mean of {WINDOW} episodes", fontsize=10)
                axis.grid(alpha=0.3)
                if key == "flag":
                    axis.set_ylim(-0.02, 1.02)
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    path = HERE / "figures" / f"{name}.png"
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
    arguments = parser.parse_args()
    print({"curves": curves, "table": table}[arguments.what](arguments.name))


if __name__ == "__main__":
    main()
