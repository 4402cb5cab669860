"""Is it right on a GPU, and how fast? Correctness first, then times, then the worlds.

    python benchmarks/bench_gpu.py --out "$OUT"        everything, one command, a few minutes
    python benchmarks/bench_gpu.py --cpu               the same code, tiny, where there is no GPU

1. Correct: losses and gradients of one batch, float32 on the CPU against float32, bfloat16 on the
   GPU, with the same z and actions drawn; a recorded update against the plain one, with the spread
   of two plain ones next to it; compiled regions against plain ones; nothing waits for the device
   from drawing a batch to writing back.
2. Fast: milliseconds of a whole update (CUDA events, median), and back to back; FLOP counted by
   torch over the largest matrix product measured here; bytes that the operators read and write,
   if none were fused, over the copy bandwidth measured here; memory. The kernels of one update by
   name, with their calls and milliseconds, and all of them in order (`*.json.gz`, for
   chrome://tracing): the rest of its time are gaps between them.
3. Worlds: frames/s of N games by number of threads.

One preset and mode at a time, several beside each other, in the two minutes that one compiles:

    for p in seed_v1 size12m laptop; do
      python benchmarks/bench_gpu.py --presets $p --modes on+cudagraph --no-checks --envs \
        --lock gpu.lock --out "$OUT/$p" &
    done; wait
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from run_script import run_script

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # runs from an uninstalled checkout too

from gpu_checks import PRESETS, check_compiled, check_graph, check_no_wait, check_precision
from gpu_times import ceilings, time_update, worlds
from result_tables import shortened, write_rows

from mario_dreamer.tracking.provenance import provenance
from mario_dreamer.training.acceleration import MODES

FULL = ["batch_size=16", "batch_length=64", "imag_horizon=15"]
SMALL = ["batch_size=4", "batch_length=16", "imag_horizon=5"]
TINY = ["size=debug", "batch_size=2", "batch_length=4", "imag_horizon=3"]


def show(rows: list[dict], path: Path | None = None) -> None:
    """Print rows as a table; write them as CSV too."""
    if not rows:
        return
    short = [shortened(row) for row in rows]
    table = [list(rows[0]), *(list(row.values()) for row in short)]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    if path is not None:
        write_rows(path, short)


def attempt(function: Callable[..., dict], *args: Any) -> dict:
    """One row of a table; what went wrong, where something did, so that the others still come."""
    try:
        return function(*args)
    except Exception as error:
        first_line = (str(error).strip() or "no message").splitlines()[0]
        said = f"{type(error).__name__}: {first_line[:150]}"
        what = " ".join([function.__name__, *(a for a in args if isinstance(a, str))])
        print(f"{what} failed: {said}", flush=True)
        return {"check": what, "found": said, "good": False}


def main() -> None:
    """Check, time, print; exit 1 when a check fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cpu", action="store_true", help="tiny, to try the script itself")
    parser.add_argument("--compile", action="store_true", help="with --cpu: check compiled regions")
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--modes", nargs="+", choices=MODES, help="default: off, cudagraph, on+cudagraph; --cpu: off")
    parser.add_argument("--checks", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--lock", type=Path, help="file: take turns with others that name it")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--envs", type=int, nargs="*", default=[16, 32])
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="for each way to step the worlds"
    )
    parser.add_argument("--out", type=Path, help="folder for tables and JSON")
    args = parser.parse_args()
    if not args.cpu and not torch.cuda.is_available():
        sys.exit(
            f"error: torch {torch.__version__} sees no CUDA GPU here, so there is nothing to time. "
            "--cpu tries the script itself."
        )
    device = "cpu" if args.cpu else "cuda"
    graphs = args.modes or (["off"] if args.cpu else ["off", "cudagraph", "on+cudagraph"])
    small, full = (TINY, TINY) if args.cpu else (SMALL, FULL)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)

    def file(name: str) -> Path | None:
        return args.out / name if args.out else None

    logging.getLogger("torchrl").setLevel(logging.WARNING)  # it greets every storage
    facts = provenance()
    print(
        ", ".join(f"{key} {facts[key]}" for key in facts if key.startswith(("mach", "version.t")))
    )
    checks: list[dict] = []
    for preset in args.presets if args.checks else ():
        checks += check_precision(preset, small, device)
        checks.append(check_graph(preset, small, device, "off" if args.cpu else "cudagraph"))
        checks += [attempt(check_no_wait, preset, small, device, graph) for graph in graphs]
        if args.compile or not args.cpu:
            checks.append(attempt(check_compiled, preset, small, device))
    print("\ncorrect?" if checks else "")
    for row in checks:
        print(f"  {'yes' if row['good'] else 'NO '}  {row['check']}: {row['found']}", flush=True)
    peaks = ceilings(torch.device(device), args.cpu)
    print(f"\nmeasured here: bf16 product {peaks[0]:.4g} TFLOP/s, copy {peaks[1]:.4g} GB/s\n")
    found: list[dict] = []
    times = [
        attempt(
            time_update, preset, full, device, graph, args.repeats, peaks, found, args.lock, args.out
        )
        for graph in graphs for preset in args.presets
    ]  # fmt: skip
    checks += [row for row in times if "good" in row]
    times = [row for row in times if "good" not in row]
    show(times, file("updates.csv"))
    print()
    show(found, file("kernels.csv"))
    print()
    games = worlds(args.envs, args.threads, args.seconds)
    show(games, file("worlds.csv"))
    if args.out:
        everything = {"facts": facts, "checks": checks, "peaks": peaks, "updates": times}
        file("bench_gpu.json").write_text(json.dumps(everything | {"worlds": games}, indent=1))
    if not all(row["good"] for row in checks):
        sys.exit("error: a check failed, see above; the times may be of something wrong.")


if __name__ == "__main__":
    run_script(main)
