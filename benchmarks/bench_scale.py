"""How far several learners go: measured with 1 and 2 processes here, a cost model beyond.

    python benchmarks/bench_scale.py --out benchmarks/results/scale_cpu_202611.csv
    python benchmarks/bench_scale.py --collectors   acting and learning in turns, and side by side
    python benchmarks/bench_scale.py --model        the cost model alone, for 8 GPUs and 4 nodes

Measured, one thread each, gloo: an update of one batch per process, its flat all-reduce, and the
exchange of decisions that every turn of the loop makes. The rounds of 1 and 2 processes take turns.

The model adds what one agent step of all processes together costs, because playing and learning
take turns (collector.steps_per_env):

    learn   = train_ratio / (N * B * T) * (update + all_reduce(N))
    play    = 1 / (N * cores * steps_per_core)
    all_reduce(N) = 2 (N - 1) / N * bytes / bandwidth + 2 (N - 1) * latency        (ring)
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from result_tables import medians, shortened, write_rows
from run_script import run_script
from tensordict import TensorDict

from mario_dreamer.tracking.files import read_metrics
from mario_dreamer.training.distributed import Processes, join

OPTIONS = {
    "laptop": ["experiment=laptop", "~env.action_set"],  # it plays in the counting env
    "debug": ["experiment=debug", "size=debug"],
}


@dataclass(frozen=True)
class Machine:
    """What a prediction rests on.

    Args:
        update: seconds of one update on one device, measured.
        size: bytes of all gradients in float32.
        records: B * T of one process.
        train_ratio: replayed records per agent step.
        cores: for the envs of one process.
        steps_per_core: agent steps a second of one core, measured.
        per_node: processes on one machine.
        inside, between: (bytes per second, seconds of latency) of a link inside a machine and
            between machines; assumed, not measured.
    """

    update: float
    size: float
    records: int = 1024
    train_ratio: float = 256
    cores: int = 16
    steps_per_core: float = 125.0
    per_node: int = 8
    inside: tuple[float, float] = (300e9, 10e-6)
    between: tuple[float, float] = (50e9, 20e-6)


def all_reduce_seconds(machine: Machine, processes: int) -> float:
    """Time of a ring all-reduce over the slowest link that it crosses."""
    bandwidth, latency = machine.inside if processes <= machine.per_node else machine.between
    around = processes - 1
    return 2 * around / processes * machine.size / bandwidth + 2 * around * latency


def step_seconds(machine: Machine, processes: int) -> tuple[float, float]:
    """Seconds that one agent step of all processes together costs: learning, and playing."""
    update = machine.update + all_reduce_seconds(machine, processes)
    learn = machine.train_ratio / (processes * machine.records) * update
    return learn, 1 / (processes * machine.cores * machine.steps_per_core)


def predict(machine: Machine, processes: int) -> dict[str, float]:
    """Return what the model says of so many processes."""
    learn, play = step_seconds(machine, processes)
    all_reduce = all_reduce_seconds(machine, processes)
    return {
        "processes": processes,
        "all_reduce_ms": 1e3 * all_reduce,
        "update_ms": 1e3 * (machine.update + all_reduce),
        "agent_steps_per_s": 1 / (learn + play),
        "efficiency": sum(step_seconds(machine, 1)) / (learn + play) / processes,
        "share_of_learning": learn / (learn + play),
        "updates_for_100k_steps": 100_000 * machine.train_ratio / (processes * machine.records),
    }


def median_ms(function: Callable[[], object], repeats: int) -> float:
    """Wall milliseconds of a call, the median."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)


def work(preset: str, repeats: int) -> dict[str, float]:
    """Measure as one of the processes that torchrun started."""
    from bench_update import ACTIONS, fill

    from mario_dreamer.config import build
    from mario_dreamer.config.compose import compose_default
    from mario_dreamer.training.loop import learn

    torch.set_num_threads(1)
    processes: Processes = join("cpu")
    cfg = compose_default([
        *OPTIONS[preset], "tracker=none", "env=counting", f"env.num_actions={ACTIONS}",
        "env.image_size=64", "device=cpu", "replay.capacity=4096",
    ])  # fmt: skip
    build.seed_everything(processes.rank)
    agent = build.make_agent(cfg, build.make_env(cfg, 1, 0))
    learner = build.make_learner(cfg, agent, processes)
    processes.broadcast_(learner.modules.state_dict().values())
    replay = build.make_replay(cfg, learner.device)
    records = 2 * cfg.batch_size * cfg.batch_length
    fill(replay, cfg.collector.num_envs, records, learner.world_model.rssm)
    count = sum(param.numel() for param in learner.optimizer.parameters())
    flat, nothing = torch.zeros(count), TensorDict()
    learn(replay, learner)
    found = {
        "preset": preset,
        "processes": processes.size,
        "million_parameters": count / 1e6,
        "update_ms": median_ms(lambda: learn(replay, learner), repeats),
        "all_reduce_ms": median_ms(lambda: processes.average_(lambda: flat, nothing), repeats),
        "exchange_ms": median_ms(lambda: processes.exchange(([], 32, "", True)), repeats),
    }
    processes.close()
    return found if processes.first else {}


def started(preset: str, processes: int, repeats: int) -> dict[str, float]:
    """Measure with so many processes on this machine."""
    script = [__file__, "--work", preset, "--repeats", str(repeats)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *torchrun, *script]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(next(line for line in out.splitlines() if line.startswith("{")))


def trained(collector: str, threads: int, folder: Path) -> dict[str, float | str]:
    """Train `laptop` for a while with a collector; return what it logged last."""
    name = f"{collector}-{threads}-{time.time_ns()}"
    words = [
        "experiment=laptop", f"collector={collector}", "collector.num_envs=8", "prefill=256",
        "collector.steps_per_env=4", f"threads={threads}", "steps=448", "log_every=224",
        "eval_every=0", "save_every=0", "tracker=none", f"runs_dir={folder}", f"name={name}",
    ]  # fmt: skip
    command = [sys.executable, "-m", "mario_dreamer", "train", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    logged = {key: points[-1][1] for key, points in read_metrics(folder / name).items()}
    wanted = ("agent_steps_per_s", "updates_per_s", "env_time", "policy_age")
    found = {key: logged.get(f"speed/{key}", 0.0) for key in wanted}
    return {"collector": collector, "threads": threads, **found,
            "replay_ratio": logged["run/replay_ratio"]}  # fmt: skip


def compare_collectors(rounds: int, threads: int) -> list[dict[str, float | str]]:
    """Train with each collector in turn; rows of medians."""
    kinds = [("many", threads), ("async", threads)]
    with tempfile.TemporaryDirectory() as folder:
        found = [trained(*kind, Path(folder)) for _ in range(rounds) for kind in kinds]
    return [medians(found[number :: len(kinds)]) for number in range(len(kinds))]


def show(rows: list[dict[str, float]]) -> None:
    """Print rows as a table."""
    print("  ".join(rows[0]))
    for row in rows:
        print("  ".join(shortened(row).values()))


def main() -> None:
    """Measure, or predict; print a table and write a CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="laptop", choices=sorted(OPTIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--collectors", action="store_true", help="many against async")
    parser.add_argument("--threads", type=int, default=1, help="of the learner, with --collectors")
    parser.add_argument("--model", action="store_true", help="only predict")
    parser.add_argument("--update-ms", type=float, default=38.2, help="seed_v1 on one H200")
    parser.add_argument("--megabytes", type=float, default=72.0, help="gradients of seed_v1")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="write a CSV")
    args = parser.parse_args()
    if args.work:
        if found := work(args.work, args.repeats):
            print(json.dumps(found), flush=True)
        return
    if args.model:
        machine = Machine(args.update_ms / 1e3, 1e6 * args.megabytes)
        rows = [predict(machine, count) for count in (1, 2, 4, 8, 16, 32, 64, 128)]
    elif args.collectors:
        rows = compare_collectors(args.rounds, args.threads)
    else:
        turns = [n for _ in range(args.rounds) for n in (1, 2)]
        found = [started(args.preset, n, args.repeats) for n in turns]
        rows = [medians([row for row in found if row["processes"] == n]) for n in (1, 2)]
    show(rows)
    if args.out:
        write_rows(args.out, rows)


if __name__ == "__main__":
    run_script(main)
