"""Draw benchmarks/results into benchmarks/figures, with the charts of mario_dreamer.reporting.

    python benchmarks/plot.py curves laptop_1-1        return, furthest x and flags of every run
    python benchmarks/plot.py known known_worlds_...   a panel per env whose answer is known
    python benchmarks/plot.py deaths laptop_1-1_seed0  where the episodes of an evaluation ended
    python benchmarks/plot.py table update_cpu_202611  a CSV as a Markdown table, to the screen

Below the curves stand command, commit, machine and date from the .md next to the CSV.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import textwrap
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure
from result_tables import markdown
from run_script import run_script

from mario_dreamer.envs.mario.emulator import actions_of, button_byte
from mario_dreamer.reporting.charts import (
    WINDOW,
    add_legend,
    draw_curve,
    draw_learning,
    finish,
    new_figure,
    running_mean,
)
from mario_dreamer.reporting.deaths import death_chart
from mario_dreamer.reporting.level_map import map_of_buttons
from mario_dreamer.reporting.page import without_paths

HERE = Path(__file__).resolve().parent
PANELS = (("return", "return"), ("x_max", "furthest x"), ("flag", "flag rate"))
AXES = (("step", "agent steps"), ("hours", "hours at work"))


def read(name: str, results: Path = HERE / "results") -> list[dict[str, str]]:
    """Read benchmarks/results/<name>.csv."""
    with (results / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def runs_of(rows: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """Sort episodes by run, named by what differs between them: the stage or the seed."""
    runs: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        runs[row.get("run", ""), row["seed"]].append(row)
    stages = [re.search(r"(?<!\d)[1-8]-[1-4](?!\d)", run) for run, _ in runs]
    if all(stages) and len({stage[0] for stage in stages}) == len(runs):
        names = [f"stage {stage[0]}" for stage in stages]
    elif len({seed for _, seed in runs}) == len(runs):
        names = [f"seed {seed}" for _, seed in runs]
    else:
        names = [f"run {number}, seed {seed}" for number, (_, seed) in enumerate(runs, 1)]
    return dict(zip(names, runs.values(), strict=True))


def caption(name: str, results: Path = HERE / "results") -> str:
    """Write in a few lines where the curves come from: command, commit, machine, date."""
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
    commands = list(dict.fromkeys(map(without_paths, found["command"])))
    if len(commands) > 3:
        commands = [f"{len(commands)}, in benchmarks/results/{name}.md"]
    parts = {
        "command": commands, "commit": commits,
        "machine": machines, "date": found["date"],
    }  # fmt: skip
    shown = [f"{key}: {'; '.join(values)}" for key, values in parts.items() if values]
    return "\n".join(line for text in shown for line in textwrap.wrap(text, 150))


def save(figure: Figure, path: Path, text: str = "") -> Path:
    """Write a figure on white, with a few small lines of text below it."""
    if text:
        figure.supxlabel(text, x=0.01, ha="left", fontsize=7, family="monospace", color="#5c656f")
    figure.savefig(path, dpi=110, facecolor="white")
    return path


def column(rows: list[dict[str, str]], key: str) -> list[float]:
    """Return a column as numbers."""
    return [float(row[key]) for row in rows]


def curves(name: str, results: Path = HERE / "results", figures: Path = HERE / "figures") -> Path:
    """Draw learning curves: a column per metric; over steps, and over hours.

    Args:
        name: of the CSV, without ending.
        results: where it lies.
        figures: where the picture goes.
    """
    rows = read(name, results)
    panels = [(key, title) for key, title in PANELS if rows[0][key] != ""]
    figure, axes = new_figure(2, len(panels), (4.2 * len(panels), 6.2))
    ratio = next((float(r["frames"]) / float(r["step"]) for r in rows if float(r["step"])), 1.0)
    for line, (over, x_label) in enumerate(AXES):
        if over == "step" and ratio != 1:
            x_label = f"agent steps of {ratio:g} frames"
        for number, (run_name, run) in enumerate(runs_of(rows).items()):
            for place, (key, _) in zip(axes[line], panels, strict=True):
                xs, ys = column(run, over), column(run, key)
                draw_learning(place, number, run_name, xs, ys, is_flag=key == "flag")
        for place, (key, title) in zip(axes[line], panels, strict=True):
            kind = "of" if key == "flag" else "mean of"
            finish(place, f"{title}, {kind} {WINDOW} episodes", x_label, in_steps=over == "step")
    add_legend(figure, axes[0, 0], "outside upper left")
    return save(figure, figures / f"{name}.png", caption(name, results))


def known(name: str, results: Path = HERE / "results", figures: Path = HERE / "figures") -> Path:
    """Draw a panel per env whose answer is known, a line per seed; arguments as of `curves`."""
    from known_worlds import WORLDS  # next to this file; it draws with this one

    rows = read(name, results)
    envs = [env for env in WORLDS if any(row["world"] == env for row in rows)]
    figure, axes = new_figure(1, len(envs), (3.4 * len(envs), 3.6))
    for place, env in zip(axes[0], envs, strict=True):
        mine = [row for row in rows if row["world"] == env]
        for number, seed in enumerate(sorted({row["seed"] for row in mine})):
            run = [row for row in mine if row["seed"] == seed]
            ys = running_mean(column(run, "return"))
            draw_curve(place, number, (f"seed {seed}", column(run, "step"), ys))
        best, naive = WORLDS[env].best, WORLDS[env].naive
        naive_name = "best without memory" if env == "memory" else "random"
        place.axhline(best, color="#1f9d45", linestyle=":", linewidth=2)
        place.axhline(naive, color="#d92c2c", linestyle=":", linewidth=2)
        finish(place, f"{env}: best {best:g}, {naive_name} {naive:g}", "agent steps", in_steps=True)
    add_legend(figure, axes[0, 0], "outside upper left")
    axes[0, 0].set_ylabel(f"return, mean of {WINDOW} episodes")
    return save(figure, figures / f"{name}.png", caption(name, results))


def deaths(name: str, results: Path = HERE / "results", figures: Path = HERE / "figures") -> Path:
    """Draw where the sampled episodes of <name>_evaluation.json ended; arguments as of `curves`.

    The map comes from a recorded flag of the same stage, <run>_<stage>_flag.json.
    """
    shown = json.loads((results / f"{name}_evaluation.json").read_text())
    recorded = sorted(results.glob(f"*_{shown['stage']}_flag.json"))  # laptop's comes after gpu's
    flag = json.loads(recorded[-1].read_text())
    pressed = [button_byte(action) for action in actions_of(flag["env"]["action_set"])]
    buttons = [pressed[a] for a in flag["actions"] for _ in range(flag["env"]["action_repeat"])]
    ends = [e for r in shown["results"] if r["name"].startswith("sampled") for e in r["episodes"]]
    figure = death_chart(ends, map_of_buttons(shown["stage"], buttons))
    return save(figure, figures / f"{name.split('_seed')[0]}_deaths.png")


def main() -> None:
    """Run the script; see the top of this file."""
    drawings = {"curves": curves, "known": known, "deaths": deaths}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=(*drawings, "table"))
    parser.add_argument("name", help="a file of benchmarks/results, without ending")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--figures", type=Path, default=HERE / "figures")
    arguments = parser.parse_args()
    if arguments.what == "table":
        print("\n".join(markdown(read(arguments.name, arguments.results))))
    else:
        print(drawings[arguments.what](arguments.name, arguments.results, arguments.figures))


if __name__ == "__main__":
    run_script(main)
