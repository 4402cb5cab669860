"""How fast does Mario run? Raw frames and agent steps per second of each way to step him.

    python benchmarks/bench_env.py
    python benchmarks/bench_env.py --seconds 20 --json --out benchmarks/results/env_<machine>.csv

`bare` is the ceiling: the same number of emulators on the same threads, stepped with nothing
around them. `share` is a row's frames/s over the bare frames/s of as many worlds. On a busy machine
`cpu_ms` is fairer: milliseconds of CPU time per agent step of one world, worker processes excluded.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torchrl.envs import EnvBase

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # runs from an uninstalled checkout too

from mario_dreamer.envs.batched import count_cpus  # noqa: E402
from mario_dreamer.envs.emulator import make_emulator  # noqa: E402
from mario_dreamer.envs.mario import make_mario_env  # noqa: E402

REPEAT = 4


def rate(step: Callable[[], None], frames: int, seconds: float) -> tuple[float, float]:
    """Call `step`, worth `frames` raw frames, for `seconds`.

    Returns:
        Frames per second, and milliseconds of this process's CPU time per agent step.
    """
    step()  # warm up
    done, start, cpu = 0, time.perf_counter(), time.process_time()
    while (now := time.perf_counter()) - start < seconds:
        step()
        done += frames
    return done / (now - start), 1e3 * (time.process_time() - cpu) / (done / REPEAT)


def bench_bare(num_envs: int, threads: int, seconds: float) -> tuple[float, ...]:
    """Step emulators on threads and nothing else; return frames/s, CPU ms, set-up seconds."""
    start = time.perf_counter()
    emulators = [make_emulator("1-1") for _ in range(num_envs)]
    for emulator in emulators:
        emulator.reset()
    setup = time.perf_counter() - start

    def play(emulator: object) -> None:
        for _ in range(REPEAT):
            if emulator.step(0)[2]:
                emulator.reset()

    with ThreadPoolExecutor(threads) as pool:
        speed = rate(lambda: list(pool.map(play, emulators)), num_envs * REPEAT, seconds)
    for emulator in emulators:
        emulator.close()
    return *speed, setup


def bench_env(
    num_envs: int, threads: int | None, seconds: float, backend: str
) -> tuple[float, ...]:
    """Step a whole environment with no-ops; return frames/s, CPU ms, set-up seconds."""
    start = time.perf_counter()
    env: EnvBase = make_mario_env(num_envs=num_envs, backend=backend, threads=threads)
    root = env.reset()
    noop = torch.zeros_like(env.rand_action(root)["action"])
    noop[:, 0] = 1  # the same game as the bare emulators play
    setup = time.perf_counter() - start

    def step() -> None:
        nonlocal root
        _, root = env.step_and_maybe_reset(root.set("action", noop))

    speed = rate(step, num_envs * REPEAT, seconds)
    env.close()
    return *speed, setup


def measure(options: argparse.Namespace) -> list[dict[str, object]]:
    """Measure every way; each batched size stands beside a bare run of as many worlds."""
    rows: list[dict[str, object]] = []

    def add(way: str, num_envs: int, threads: int, found: tuple[float, ...]) -> None:
        frames, cpu, setup = found
        bare = [r["frames_per_s"] for r in rows if r["way"] == "bare" and r["envs"] == num_envs]
        row = {"way": way, "envs": num_envs, "threads": threads, "frames_per_s": round(frames, 1)}
        row |= {"steps_per_s": round(frames / REPEAT, 1), "cpu_ms": round(cpu, 2)}
        row["setup_s"] = round(setup, 2)
        rows.append(row | {"share": round(frames / bare[0], 3) if bare else 1.0})

    for num_envs in options.envs:
        threads = min(num_envs, options.threads)
        add("bare", num_envs, threads, bench_bare(num_envs, threads, options.seconds))
        add("batched", num_envs, threads, bench_env(num_envs, threads, options.seconds, "batched"))
    for way, backend in (("SerialEnv", "transformed"), ("ParallelEnv", "parallel")):
        if options.several:
            found = bench_env(options.several, None, options.seconds, backend)
            add(way, options.several, 1 if way == "SerialEnv" else options.several, found)
    return rows


def main() -> None:
    """Measure, print a table, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--several", type=int, default=8, help="worlds of SerialEnv; 0: skip both")
    parser.add_argument("--threads", type=int, default=count_cpus())
    parser.add_argument("--seconds", type=float, default=10.0, help="per row")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(options)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    machine = {"machine": platform.machine(), "cpus": count_cpus(), "load": round(load, 2)}
    machine |= {"python": platform.python_version(), "torch": torch.__version__}
    if options.json:
        print(json.dumps({"machine": machine, "rows": rows}))
    else:
        print(", ".join(f"{key} {value}" for key, value in machine.items()))
        print("".join(f"{name:>13}" for name in rows[0]))
        for row in rows:
            print("".join(f"{value:>13}" for value in row.values()))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0], *machine])
            writer.writeheader()
            writer.writerows(row | machine for row in rows)


if __name__ == "__main__":
    main()
