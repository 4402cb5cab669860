"""How long is one learner update, and what of it? Side by side with TorchRL's own parts.

    python benchmarks/bench_update.py --threads 1 --out benchmarks/results/update_cpu_202611.csv

One row per preset and precision: CPU and wall milliseconds of a whole update (median), its
parts, and the peak memory of the process that ran it. Each row has a process of its own, and
the rows take turns, `--rounds` times, so that a busy machine is busy for all of them. Where
other jobs run, compare CPU time.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from result_tables import medians, shortened, write_rows
from run_script import run_script
from tensordict import TensorDict

PRESETS = {
    "seed": ["experiment=seed_v1"],
    "size12m": ["size=size12m"],
    "laptop": ["experiment=laptop", "~env.action_set"],  # it plays in the counting world
    "size1m": ["size=size1m"],
    "torchrl": [],  # the seed's sizes, from TorchRL's public parts, fp32
}
ACTIONS = 7
PARTS = (
    "sampling",
    "world_model_loss",
    "imagination",
    "returns",
    "actor_loss",
    "critic_loss",
    "backward",
    "optimizer",
)


class Stopwatch:
    """Add up the time spent in named calls."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)

    def timed(self, name: str, function: Callable) -> Callable:
        """The same function, its CPU seconds added up under `name`."""

        def call(*args: object, **kwargs: object) -> object:
            began = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent[name] += time.process_time() - began

        return call


def fill(replay: object, num_envs: int, records: int, rssm: object) -> None:
    """Remember random transitions, about `records` of them."""
    steps = max(records // num_envs, 2)
    shape = (num_envs, steps)
    frames = torch.randint(0, 256, (*shape, 3, 64, 64), dtype=torch.uint8)
    flag = torch.zeros(*shape, 1, dtype=torch.bool)
    opens, states = flag.clone(), rssm.stoch_shape
    opens[:, 0] = True
    after = {"pixels": frames, "reward": torch.rand(*shape, 1), "terminated": flag, "done": flag}
    after["deter"] = torch.rand(*shape, rssm.deter_dim) * 2 - 1
    after["stoch"] = torch.eye(states[1])[torch.randint(states[1], (*shape, states[0]))]
    action = torch.eye(ACTIONS, dtype=torch.int64)[torch.randint(ACTIONS, shape)]
    replay.extend(
        TensorDict({"pixels": frames, "is_init": opens, "action": action, "next": after}, shape)
    )


def our_update(preset: str, precision: str, watch: Stopwatch) -> Callable[[], None]:
    """Build agent, learner and a filled replay; the function samples, updates, writes back."""
    from mario_dreamer.config import build
    from mario_dreamer.config.compose import compose_default
    from mario_dreamer.training.loop import learn

    cfg = compose_default(
        [
            *PRESETS[preset],
            "tracker=none",
            "env=counting",
            f"env.num_actions={ACTIONS}",
            f"precision={precision}",
            "device=cpu",
            "replay.capacity=4096",
        ]
    )
    build.seed_everything(0)
    learner = build.make_learner(cfg, build.make_agent(cfg, build.make_env(cfg, 1, 0)))
    replay = build.make_replay(cfg, learner.device)
    fill(
        replay,
        cfg.collector.num_envs,
        2 * cfg.batch_size * cfg.batch_length,
        learner.world_model.rssm,
    )
    for name in PARTS[1:6]:
        part = getattr(learner, name)
        part.forward = watch.timed(name, part.forward)
    learner.optimizer.step = watch.timed("optimizer", learner.optimizer.step)
    replay.sample = watch.timed("sampling", replay.sample)
    replay.update_latents = watch.timed("sampling", replay.update_latents)
    return lambda: learn(replay, learner)


def measure(preset: str, precision: str, threads: int, repeats: int) -> dict[str, float | str]:
    """Time `repeats` updates after one to warm up; milliseconds, and peak memory in GiB."""
    torch.set_num_threads(threads)
    watch = Stopwatch()
    if preset == "torchrl":
        from torchrl_update import torchrl_update

        update = torchrl_update(16, 64, 15)
    else:
        update = our_update(preset, precision, watch)
    update()
    runs, parts, walls = [], [], []
    backward = watch.timed("backward", torch.autograd.backward)  # Tensor.backward calls it too
    with mock.patch.object(torch.autograd, "backward", backward):
        for _ in range(repeats):
            watch.spent.clear()
            wall, cpu = time.perf_counter(), time.process_time()
            update()
            runs.append(time.process_time() - cpu)
            walls.append(time.perf_counter() - wall)
            parts.append(dict(watch.spent))
    row: dict[str, float | str] = {"preset": preset, "precision": precision, "threads": threads}
    row["cpu_ms"] = 1e3 * statistics.median(runs)
    row["wall_ms"] = 1e3 * statistics.median(walls)
    for name in PARTS:
        row[f"{name}_ms"] = 1e3 * statistics.median(part.get(name, 0.0) for part in parts)
    row["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return row


def main() -> None:
    """Measure each row in a process of its own, in turns; print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--precision", nargs="+", choices=("bf16", "fp32"), default=["bf16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="write a CSV file here")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one, args.threads, args.repeats)))
        return
    kinds = [(p, kind) for p in args.presets if p != "torchrl" for kind in args.precision]
    kinds += [("torchrl", "fp32")] if "torchrl" in args.presets else []
    found: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for _ in range(args.rounds):
        for kind in kinds:
            command = [sys.executable, __file__, "--one", *kind]
            command += ["--threads", str(args.threads), "--repeats", str(args.repeats)]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[kind].append(json.loads(out.strip().splitlines()[-1]))
    rows = [medians(rounds) for rounds in found.values()]
    base = next((row["cpu_ms"] for row in rows if row["preset"] == "torchrl"), None)
    for row in rows:
        of_seed = base is not None and row["preset"] in ("seed", "torchrl")
        row["times_torchrl"] = base / row["cpu_ms"] if of_seed else ""
        row |= {"torch": torch.__version__, "machine": platform.machine()}
    if args.out:
        write_rows(args.out, [shortened(row) for row in rows])
    if args.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(*(f"{name}={text}" for name, text in shortened(row).items()))


if __name__ == "__main__":
    run_script(main)
