"""Kill training with SIGKILL again and again, resume it, and compare it with an unbroken run.

    python benchmarks/kills.py --kills 100 --out kills_202611
    python benchmarks/kills.py --kills 3 --variants toy --folder /tmp/kills

A round: an unbroken run of a seed, then the same run, killed at random moments (uniform in time,
or inside a save, a prune, a write to MLflow ..., see kill_moments.py) and resumed with
resume=latest until it is through. After every kill and every resume it is checked that

- the newest whole checkpoint is gone on from; a damaged one (the harness breaks some itself) is
  skipped and named,
- replay holds every record up to the save, equal to the unbroken run's,
- metrics.jsonl and MLflow (sqlite) hold one run, no point missing, none twice,
- at the end all of the checkpoint is bit-equal to the unbroken run's, and no rubbish is left.

Each life is a process of its own: forked off a parent that has only imported the library, or
(every tenth) started by the command line. Writes benchmarks/results/<out>.csv and <out>.md.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from kill_checks import Reference
from kill_lives import VARIANTS, Round, live, one_life, wait
from result_tables import write_rows
from run_script import run_script

from mario_dreamer.tracking.mlflow.store import import_mlflow
from mario_dreamer.tracking.provenance import provenance

RESULTS = Path(__file__).resolve().parent / "results"


def unbroken(turn: Round, template: Path) -> Reference:
    """Make the run that nobody kills."""
    folder, database = turn.folder / "whole", turn.folder / "whole.db"
    for target in (database, turn.database):
        if template.is_file():
            shutil.copy(template, target)
    words = turn.fresh(folder, database, "whole")
    began = time.monotonic()
    if wait(live(words, turn.folder / "whole.log", None), 600) != 0:
        raise RuntimeError(f"the unbroken run fell: {(turn.folder / 'whole.log').read_text()}")
    turn.seconds = time.monotonic() - began
    return Reference(folder / "whole", database)


def make_template(path: Path) -> None:
    """Make an empty MLflow database, once: its tables take seconds."""
    pid = os.fork()
    if pid == 0:
        import_mlflow().MlflowClient(f"sqlite:///{path}").search_experiments()
        os._exit(0)
    wait(pid, 300)


def rounds(kills: int, variants: list[str], folder: Path, seed: int, out: Path | None) -> dict:
    """Kill until there are enough kills; return what to report."""
    rng = random.Random(seed)
    template = folder / "template.db"
    make_template(template)
    found: list[dict[str, Any]] = []
    finished, wrong = Counter(), []
    number = 0
    while len(found) < kills:
        variant = variants[number % len(variants)]
        place = folder / f"round_{number:02d}_{variant}"
        place.mkdir()
        turn = Round(variant, seed + number, place, rng.choice((0.2, 1.0, 5.0)))
        number += 1
        reference = unbroken(turn, template)
        while (row := one_life(turn, rng, reference)) is not None:
            found.append({"kill": len(found) + 1, **row})
            if row["wrong"]:
                wrong.append(f"{place.name}, life {row['life']}: {row['wrong']}")
            print(f"{len(found)}/{kills} {row}", flush=True)
            if out is not None:
                write_rows(out, found)
        ends = reference.whole(turn.run, turn.database)
        print(
            f"{place.name}: {turn.life - 1} kills, {'bit-equal' if not ends else ends}", flush=True
        )
        finished[variant] += not ends
        wrong += [f"{place.name}, end: {text}" for text in ends]
        if not ends and not any(place.name in text for text in wrong):
            shutil.rmtree(place)
    return {"kills": found, "rounds": number, "bit_equal": dict(finished), "wrong": wrong}


def report(path: Path, shown: dict, seed: int) -> None:
    """Write the .md next to the CSV."""
    found = shown["kills"]
    facts = provenance() | {"date": time.strftime("%Y-%m-%d"), "seed": str(seed)}
    moments = Counter(row["moment"].split(",")[0] for row in found)
    resumed = Counter(row["resumed_from"] for row in found)
    variants = Counter(row["variant"] for row in found)
    lines = [f"# {path.stem}", ""]
    lines += [f"- {name}: {text}" for name, text in facts.items()]
    lines += [
        "",
        (
            f"{len(found)} kills in {shown['rounds']} runs ({dict(variants)}); runs that came through "
            f"bit-equal to an unbroken one: {shown['bit_equal']}; "
            f"checkpoints broken on purpose: {sum(bool(row['damaged_by_harness']) for row in found)}; "
            f"killed before the run stood: {resumed['did not get there']}; "
            f"things found wrong: {len(shown['wrong'])}."
        ),
        "",
        "| moment | kills |",
        "|---|---|",
    ]
    lines += [f"| {moment} | {count} |" for moment, count in moments.most_common()]
    lines += ["", *[f"- {text}" for text in shown["wrong"]]]
    path.with_suffix(".md").write_text("\n".join(lines).rstrip() + "\n")


def main() -> int:
    """Run the script; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder otherwise")
    parser.add_argument("--out", help="name of the files in benchmarks/results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    import_mlflow()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="kills"))
    folder.mkdir(parents=True, exist_ok=True)
    out = RESULTS / f"{arguments.out}.csv" if arguments.out else None
    shown = rounds(arguments.kills, arguments.variants, folder.resolve(), arguments.seed, out)
    if out is not None:
        report(out, shown, arguments.seed)
    for text in shown["wrong"]:
        print(f"WRONG {text}")
    print(f"{len(shown['kills'])} kills, {shown['rounds']} runs, {len(shown['wrong'])} things wrong")
    return 1 if shown["wrong"] else 0


if __name__ == "__main__":
    run_script(main)
