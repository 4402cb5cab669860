"""Time of a sample: our replay in memory, in files and in compressed files, and TorchRL's own.

    python benchmarks/bench_replay.py --records 100000 --out benchmarks/results/replay.csv
    python benchmarks/bench_replay.py --records 1000000 --only memmap compressed --folder /big/disk

Prints one row per variant: milliseconds per batch (median), records per second, microseconds to
store a record, bytes per record (in files: blocks on disk). Frames are those of Mario played at
random where the emulator is installed, else noise, which does not compress. The stock paths are a
LazyTensorStorage of one stream with a SliceSampler, and a CompressedListStorage, which works with
single records only.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from result_tables import write_rows
from run_script import run_script
from tensordict import TensorDict
from torchrl.data import (
    CompressedListStorage,
    LazyTensorStorage,
    RandomSampler,
    SliceSampler,
    TensorDictReplayBuffer,
)

from mario_dreamer.envs.mario.make import make_mario_env
from mario_dreamer.replay import ToRecords, make_replay

BATCH, LENGTH, CHUNK, ACTIONS = 16, 64, 200, 7
Memory = tuple[Callable, Callable, int, str | None]  # extend, sample, number of envs, folder


@functools.cache
def images(num_envs: int, steps: int) -> torch.Tensor:
    """Frames [N, steps, 3, 64, 64] of Mario played at random; noise without an emulator."""
    try:
        env = make_mario_env(num_envs=num_envs, action_set="right_only")
        return env.rollout(steps, break_when_any_done=False)["pixels"].contiguous()
    except ImportError:
        return torch.randint(0, 256, (num_envs, steps, 3, 64, 64), dtype=torch.uint8)


def transitions(num_envs: int, steps: int, latents: bool) -> TensorDict:
    """Transitions [N, steps] of 3 x 64 x 64 frames, one episode start per batch."""
    frames = images(num_envs, steps)
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


def ours(records: int, storage: str, latents: bool, args: argparse.Namespace) -> Memory:
    """Our replay: (extend with [4, CHUNK], sample, 4)."""
    kind, _, codec = storage.partition(" ")
    options = {"codec": codec} if codec else {}
    if kind != "memory":
        options["path"] = tempfile.mkdtemp(dir=args.folder)
    replay = make_replay(
        records, 4, BATCH, LENGTH, latents=latents, storage=kind, device=args.device, **options
    )
    return replay.extend, replay.sample, 4, options.get("path")


def stock(records: int, storage: str, latents: bool, args: argparse.Namespace) -> Memory:
    """TorchRL's own: (extend with [1, CHUNK], sample, 1); a list gives single records only."""
    if storage == "compressed list":
        held, sampler = CompressedListStorage(records, compression_level=1), RandomSampler()
    else:
        held = LazyTensorStorage(records, device=args.device)
        sampler = SliceSampler(
            slice_len=LENGTH, traj_key="stream", init_key=None, truncated_key=None,
            cache_values=True,
        )  # fmt: skip
    buffer = TensorDictReplayBuffer(
        storage=held, sampler=sampler, transform=ToRecords(latents), batch_size=BATCH * LENGTH
    )
    return buffer.extend, buffer.sample, 1, None


def bytes_of(folder: str | None, records: int, sample: TensorDict) -> float:
    """Bytes per record: blocks on disk, or the tensors of a sample without what sampling adds."""
    if folder is not None:
        return sum(512 * path.stat().st_blocks for path in Path(folder).rglob("*")) / records
    added = {"index", "step_id", "prev_action", "prev_stoch"}
    return sum(v[0, 0].nbytes for k, v in sample.items() if k not in added) + ACTIONS


def measure(memory: Memory, records: int, latents: bool, args: argparse.Namespace) -> dict:
    """Fill a memory of `records` and sample it `args.repeats` times."""
    extend, sample, num_envs, folder = memory
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
        batch = sample()
        wait(args.device)
        times.append(time.perf_counter() - began)
    median = statistics.median(times[3:])
    return {
        "ms_per_batch": round(1e3 * median, 3),
        "records_per_s": round(BATCH * LENGTH / median),
        "us_per_stored_record": round(1e6 * fill / stored, 2),
        "bytes_per_record": round(bytes_of(folder, records, batch.view(BATCH, LENGTH))),
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
    parser.add_argument("--latents", action="store_true", help="store latents, 1 kB a record more")
    parser.add_argument("--only", nargs="+", choices=("memory", "memmap", "compressed"))
    parser.add_argument("--folder", help="where the files lie; default: the temporary folder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, help="write a CSV")
    args = parser.parse_args()
    logging.getLogger("torchrl").setLevel(logging.WARNING)  # it writes to stdout, where JSON goes
    variants = [("ours", ours, "memory"), ("stock SliceSampler", stock, "memory")]
    if args.device == "cpu":
        files = ["memmap", "compressed zlib"] + ["compressed lz4"] * bool(find_spec("lz4"))
        variants += [("ours", ours, name) for name in files]
        variants += [("stock single records", stock, "compressed list")]
    rows = []
    for name, make, storage in variants:
        if args.only and storage.split()[0] not in args.only:
            continue
        facts = {"replay": name, "storage": storage, "latents": args.latents}
        facts["records"] = args.records
        memory = make(args.records, storage, args.latents, args)
        rows.append({**facts, **measure(memory, args.records, args.latents, args)})
        if storage == "compressed list":
            rows[-1]["bytes_per_record"] = ""  # it does not say
        if memory[3] is not None:
            shutil.rmtree(memory[3])
        del memory  # gigabytes
        if not args.json:
            print(rows[-1], file=sys.stderr)
    threads = torch.get_num_threads()
    machine = f"{platform.machine()}, {args.device}, {threads} threads, torch {torch.__version__}"
    rows = [{**row, "machine": machine} for row in rows]
    if args.json:
        print(json.dumps(rows, indent=1))
    if args.out:
        write_rows(args.out, rows)


if __name__ == "__main__":
    run_script(main)
