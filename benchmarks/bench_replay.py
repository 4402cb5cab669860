"""How long is a sample? Our replay in memory and in files, against TorchRL's stock path.

    python benchmarks/bench_replay.py --records 100000 --out benchmarks/results/replay.csv

Prints one row per variant: milliseconds per batch (median), records per second, microseconds
to store a record. The stock path is a LazyTensorStorage of one stream with a SliceSampler.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer

from mario_dreamer.replay import ToRecords, make_replay

BATCH, LENGTH, CHUNK, ACTIONS = 16, 64, 200, 7
Memory = tuple[Callable, Callable, int]  # extend, sample, number of environments


def transitions(num_envs: int, steps: int, latents: bool) -> TensorDict:
    """Random transitions [N, steps] of 3 x 64 x 64 frames, one episode start per batch."""
    frames = torch.randint(0, 256, (num_envs, steps, 3, 64, 64), dtype=torch.uint8)
    flag = torch.zeros(num_envs, steps, 1, dtype=torch.bool)
    opens, reward = flag.clone(), torch.rand(num_envs, steps, 1)
    opens[:, 0] = True
    after = {"pixels": frames, "reward": reward, "terminated": flag, "done": flag}
    if latents:
        after["deter"] = torch.rand(num_envs, steps, 512)
        after["stoch"] = torch.eye(32).expand(num_envs, steps, 32, 32)
    action = torch.eye(ACTIONS, dtype=torch.int64)[torch.randint(ACTIONS, (num_envs, steps))]
    root = {"pixels": frames, "is_init": opens, "action": action, "next": after}
    return TensorDict(root, [num_envs, steps])


def ours(records: int, storage: str, latents: bool, device: str, num_envs: int = 4) -> Memory:
    """Our replay: (extend with [num_envs, CHUNK], sample)."""
    replay = make_replay(
        records, num_envs, BATCH, LENGTH, latents=latents, storage=storage, device=device
    )
    return replay.extend, replay.sample, num_envs


def stock(records: int, storage: str, latents: bool, device: str) -> Memory:
    """TorchRL's SliceSampler over one stream: (extend with [1, CHUNK], sample)."""
    sampler = SliceSampler(
        slice_len=LENGTH, traj_key="stream", init_key=None, truncated_key=None, cache_values=True
    )
    buffer = TensorDictReplayBuffer(
        storage=LazyTensorStorage(records, device=device),
        sampler=sampler,
        transform=ToRecords(latents),
        batch_size=BATCH * LENGTH,
    )
    return buffer.extend, buffer.sample, 1


def measure(memory: Memory, records: int, latents: bool, args: argparse.Namespace) -> dict:
    """Fill a memory of `records` and sample it `args.repeats` times."""
    extend, sample, num_envs = memory
    played = transitions(num_envs, CHUNK, latents)
    began, stored = time.perf_counter(), 0
    while stored < records:
        stored += len(extend(played))
    fill = time.perf_counter() - began
    times = []
    for _ in range(args.repeats + 3):
        extend(played)  # as in training, the data change between two samples
        wait(args.device)
        began = time.perf_counter()
        sample()
        wait(args.device)
        times.append(time.perf_counter() - began)
    median = statistics.median(times[3:])
    return {
        "ms_per_batch": round(1e3 * median, 3),
        "records_per_s": round(BATCH * LENGTH / median),
        "us_per_stored_record": round(1e6 * fill / stored, 2),
    }


def wait(device: str) -> None:
    """Wait until the device is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main() -> None:
    """Measure every variant; print a table or JSON; write a CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, help="write a CSV")
    args = parser.parse_args()
    logging.getLogger("torchrl").setLevel(logging.WARNING)  # it writes to stdout, where JSON goes
    variants = [("ours", ours, "memory", False), ("ours", ours, "memory", True)]
    if args.device == "cpu":
        variants += [("ours", ours, "memmap", False), ("ours", ours, "memmap", True)]
    variants += [("stock SliceSampler", stock, "memory", False)]
    rows = []
    for name, make, storage, latents in variants:
        facts = {"replay": name, "storage": storage, "latents": latents, "records": args.records}
        memory = make(args.records, storage, latents, args.device)
        rows.append({**facts, **measure(memory, args.records, latents, args)})
        del memory  # a gigabyte
        if not args.json:
            print(rows[-1], file=sys.stderr)
    threads = torch.get_num_threads()
    machine = f"{platform.machine()}, {args.device}, {threads} threads, torch {torch.__version__}"
    rows = [{**row, "machine": machine} for row in rows]
    if args.json:
        print(json.dumps(rows, indent=1))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with args.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
