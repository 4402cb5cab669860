"""How fast does Mario run? Raw frames and agent steps per second of each way to step him.

    python benchmarks/bench_env.py
    python benchmarks/bench_env.py --seconds 20 --json --out benchmarks/results/env_<machine>.csv

`bare` is the ceiling: the same number of emulators on the same threads, stepped with nothing
around them. All ways with as many envs take turns, so that other load on the machine slows all
of them alike; a row holds medians over the rounds. `share` is the median of a way's frames/s over
the bare frames/s of the same round. `cpu_ms` is milliseconds of CPU time per agent step of one
env, worker processes excluded.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from result_tables import write_rows
from run_script import run_script
from torchrl.envs import EnvBase

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # runs from an uninstalled checkout too

from mario_dreamer.envs.base import count_cpus  # noqa: E402
from mario_dreamer.envs.mario.emulator import make_emulator  # noqa: E402
from mario_dreamer.envs.mario.make import make_mario_env  # noqa: E402

REPEAT = 4


@dataclass
class Way:
    """One way to step Mario, set up and ready.

    Args:
        name, envs, threads: for the table.
        setup: seconds it took to make.
        step: steps every env once.
        close: frees it.
        rounds: frames/s of each round.
        cpu: milliseconds of this process's CPU time per agent step of an env, in each round.
    """

    name: str
    envs: int
    threads: int
    setup: float
    step: Callable[[], object]
    close: Callable[[], object]
    rounds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """Step for so long, and note how fast it went."""
        self.step()  # warm up
        done, start, cpu = 0, time.perf_counter(), time.process_time()
        while (now := time.perf_counter()) - start < seconds:
            self.step()
            done += self.envs
        self.rounds.append(done * REPEAT / (now - start))
        self.cpu.append(1e3 * (time.process_time() - cpu) / done)


def bare(num_envs: int, threads: int) -> Way:
    """Emulators on threads and nothing else."""
    start = time.perf_counter()
    emulators = [make_emulator("1-1") for _ in range(num_envs)]
    for emulator in emulators:
        emulator.reset()
    setup = time.perf_counter() - start
    pool = ThreadPoolExecutor(threads)

    def play(emulator: object) -> None:
        for _ in range(REPEAT):
            if emulator.step(0)[2]:
                emulator.reset()

    def close() -> None:
        pool.shutdown()
        for emulator in emulators:
            emulator.close()

    return Way("bare", num_envs, threads, setup, lambda: list(pool.map(play, emulators)), close)


def whole(name: str, num_envs: int, threads: int, backend: str) -> Way:
    """A whole environment, stepped with no-ops: the same game as the bare emulators play."""
    start = time.perf_counter()
    env: EnvBase = make_mario_env(
        num_envs=num_envs, backend=backend, threads=threads if backend == "batched" else None
    )
    root = env.reset()
    noop = torch.zeros_like(env.rand_action(root)["action"])
    noop[:, 0] = 1
    setup = time.perf_counter() - start

    def step() -> None:
        nonlocal root
        _, root = env.step_and_maybe_reset(root.set("action", noop))

    return Way(name, num_envs, threads, setup, step, env.close)


def compare(ways: list[Way], rounds: int, seconds: float) -> list[dict[str, object]]:
    """Run the ways in turn, round after round; rows of medians. The first is the yardstick."""
    for _ in range(rounds):
        for way in ways:
            way.run(seconds / rounds)
    rows = []
    for way in ways:
        frames = statistics.median(way.rounds)
        shares = [own / other for own, other in zip(way.rounds, ways[0].rounds, strict=True)]
        rows.append(
            {
                "way": way.name,
                "envs": way.envs,
                "threads": way.threads,
                "frames_per_s": round(frames, 1),
                "steps_per_s": round(frames / REPEAT, 1),
                "cpu_ms": round(statistics.median(way.cpu), 2),
                "setup_s": round(way.setup, 2),
                "share": round(statistics.median(shares), 3),
            }
        )
        way.close()
    return rows


def measure(options: argparse.Namespace) -> list[dict[str, object]]:
    """Measure every way, those with as many envs against each other."""
    rows: list[dict[str, object]] = []
    for num_envs in options.envs:
        threads = min(num_envs, options.threads)
        ways = [bare(num_envs, threads), whole("batched", num_envs, threads, "batched")]
        if num_envs == options.several:
            ways.append(whole("SerialEnv", num_envs, 1, "serial"))
            ways.append(whole("ParallelEnv", num_envs, num_envs, "parallel"))
        rows += compare(ways, options.rounds, options.seconds)
    return rows


def main() -> None:
    """Measure, print a table, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument(
        "--several",
        type=int,
        default=8,
        help="number of envs at which SerialEnv and ParallelEnv run too; 0: never",
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=count_cpus())
    parser.add_argument("--seconds", type=float, default=10.0, help="per row, all rounds together")
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
        write_rows(options.out, [row | machine for row in rows])


if __name__ == "__main__":
    run_script(main)
