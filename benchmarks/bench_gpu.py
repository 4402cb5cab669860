"""Is it right on a GPU, and how fast? Correctness first, then times, then the worlds.

    python benchmarks/bench_gpu.py --out "$OUT"        everything, one command, a few minutes
    python benchmarks/bench_gpu.py --cpu               the same code, tiny, where there is no GPU

1. Correct: losses and gradients of one batch, float32 on the CPU against float32, bfloat16 on the
   GPU, with the same z and actions drawn; a recorded update against the plain one, with the spread of
   two plain ones beside it; nothing waits for the device between drawing a batch and writing back.
2. Fast: milliseconds of a whole update (CUDA events, median), and back to back; FLOP counted by
   torch over the largest matrix product measured here; bytes that the operators read and write,
   if none were fused, over the copy bandwidth measured here; memory.
3. Worlds: frames/s of N games by number of threads.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # runs from an uninstalled checkout too

from bench_update import ACTIONS, fill

from mario_dreamer import build
from mario_dreamer.distributions.onehot import OneHotCategorical
from mario_dreamer.launch import compose_default
from mario_dreamer.replay import Replay
from mario_dreamer.tracking.provenance import provenance
from mario_dreamer.training.learner import Learner
from mario_dreamer.training.loop import learn

PRESETS = {
    "seed_v1": ["experiment=seed_v1"],
    "size12m": ["size=size12m"],
    "laptop": ["experiment=laptop", "imagination_starts=null", "~env.action_set"],
}
FULL = ["batch_size=16", "batch_length=64", "imag_horizon=15"]
SMALL = ["batch_size=4", "batch_length=16", "imag_horizon=5"]
TINY = ["size=debug", "batch_size=2", "batch_length=4", "imag_horizon=3"]
# Largest difference of a loss, relative, and smallest cosine of all gradients.
TOLERANCES = {"fp32": (1e-3, 0.9999), "bf16": (0.05, 0.95)}


def make(
    preset: str, sizes: list[str], device: str, precision: str, compile: str = "off"
) -> tuple[Learner, Replay]:
    """Build a learner with the weights of seed 0 and a replay of random records on its device."""
    changes = [
        *PRESETS[preset], *sizes, "env=counting", f"env.num_actions={ACTIONS}", "tracker=none",
        f"device={device}", f"precision={precision}", f"compile={compile}",
        "replay.capacity=16384", "collector.num_envs=8",
    ]  # fmt: skip
    cfg = compose_default(changes)
    build.seed_everything(0)
    learner = build.make_learner(cfg, build.make_agent(cfg, build.make_env(cfg, 1, 0)))
    replay = build.make_replay(cfg, learner.device)
    torch.manual_seed(1)
    fill(replay, 8, 4 * cfg.batch_size * cfg.batch_length, learner.world_model.rssm)
    return learner, replay


def settle(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def same_draws(drawn: list[Tensor]) -> Iterator[None]:
    """Let every categorical draw what was drawn the first time, whatever was rounded since.

    Args:
        drawn: filled where it is empty, else drawn from.
    """
    sample, record, again = OneHotCategorical.sample, not drawn, iter(drawn)

    def draw(self: OneHotCategorical, point: Tensor | None = None) -> Tensor:
        if record:
            drawn.append(sample(self, point))
            return drawn[-1]
        return next(again).to(self.probs.device)

    with mock.patch.object(OneHotCategorical, "sample", draw):
        yield


def losses_and_gradients(
    learner: Learner, records: Any, drawn: list[Tensor]
) -> tuple[dict[str, float], Tensor]:
    """All loss terms of one batch, and all gradients in one vector on the CPU."""
    with same_draws(drawn):
        metrics = learner.forward_backward(records.to(learner.device))
    gradients = [p.grad.flatten() for p in learner.optimizer.parameters() if p.grad is not None]
    found = torch.cat(gradients).double().cpu()
    learner.optimizer.zero_grad()
    terms = {k: float(v) for k, v in metrics.items() if k.startswith("loss_") or k == "total"}
    return terms, found


def check_precision(preset: str, sizes: list[str], device: str) -> list[dict]:
    """Compare one batch's losses and gradients with those of float32 on the CPU."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    reference, replay = make(preset, sizes, "cpu", "fp32")
    records = replay.sample()
    drawn: list[Tensor] = []
    expected, gradient = losses_and_gradients(reference, records, drawn)
    rows = []
    for precision, (most, least) in TOLERANCES.items():
        terms, found = losses_and_gradients(
            make(preset, sizes, device, precision)[0], records, drawn
        )
        off = max(abs(terms[k] - v) / max(abs(v), 1e-2) for k, v in expected.items())
        cosine = float(torch.cosine_similarity(found, gradient, dim=0))
        rows.append(
            {"check": f"{preset}: {precision} on {device} against fp32 on cpu",
             "found": f"losses within {off:.1e} (at most {most:.0e}), gradient cosine "
             f"{cosine:.5f} (at least {least})", "good": off <= most and cosine >= least}
        )  # fmt: skip
    torch.backends.cudnn.allow_tf32 = True
    return rows


def weights_after(preset: str, sizes: list[str], device: str, compile: str, count: int) -> Tensor:
    """All weights after some updates, in one vector on the CPU."""
    learner, replay = make(preset, sizes, device, "auto", compile)
    batches = [replay.sample() for _ in range(count)]
    torch.manual_seed(5)
    for batch in batches:
        learner.update(batch)
    return torch.cat([p.detach().flatten() for p in learner.optimizer.parameters()]).double().cpu()


def check_graph(preset: str, sizes: list[str], device: str, graph: str) -> dict:
    """Compare ten updates, five of them replayed, with ten plain ones."""
    plain, again, recorded = (
        weights_after(preset, sizes, device, mode, 10) for mode in ("off", "off", graph)
    )
    spread, off = (float((x - plain).norm() / plain.norm()) for x in (again, recorded))
    most = max(1e-6, 10 * spread)
    equal = "bit for bit" if torch.equal(plain, recorded) else f"within {off:.1e}"
    return {"check": f"{preset}: compile={graph} against plain, 10 updates",
            "found": f"{equal} (at most {most:.0e}; two plain runs differ by {spread:.0e})",
            "good": off <= most}  # fmt: skip


def check_no_wait(preset: str, sizes: list[str], device: str, graph: str) -> dict:
    """Draw, learn and write back while every wait for the device is an error."""
    learner, replay = make(preset, sizes, device, "auto", graph)
    for _ in range(8):
        learn(replay, learner)
    on_gpu = learner.device.type == "cuda"
    found = "nothing waited" if on_gpu else "not asked on a CPU"
    try:
        if on_gpu:
            torch.cuda.set_sync_debug_mode("error")
        for _ in range(3):
            learn(replay, learner)
    except RuntimeError as error:
        found = f"something waits: {str(error).splitlines()[0][:150]}"
    finally:
        if on_gpu:
            torch.cuda.set_sync_debug_mode("default")
    name = f"{preset}: compile={graph}, from drawing a batch to writing back"
    return {"check": name, "found": found, "good": not found.startswith("something")}


class Traffic(TorchDispatchMode):
    """Count operators that compute, and the bytes that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view and func.overloadpacket.__name__ not in ("detach", "empty", "alias"):
            self.operators += 1
            for leaf in tree_leaves((args, kwargs, out)):
                self.bytes += leaf.nbytes if isinstance(leaf, Tensor) else 0
        return out


def ceilings(device: torch.device, small: bool) -> tuple[float, float]:
    """Measure bf16 matrix products, TFLOP/s, and copies, GB/s of bytes read plus written."""
    side, size = (256, 2**22) if small else (8192, 2**32)
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = timed(lambda: a @ b, device, 20)
    source = torch.randint(0, 255, (size,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    copy = timed(lambda: target.copy_(source), device, 20)
    return 2 * side**3 / product / 1e9, 2 * size / copy / 1e6


def timed(function: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median milliseconds of a call: by events on a GPU, by the clock on a CPU."""
    for _ in range(3):
        function()
    settle(device)
    times = []
    for _ in range(repeats):
        if device.type == "cuda":
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            began.record()
            function()
            ended.record()
            ended.synchronize()
            times.append(began.elapsed_time(ended))
        else:
            start = time.perf_counter()
            function()
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def time_update(
    preset: str, sizes: list[str], device: str, compile: str, repeats: int, peaks: tuple
) -> dict:
    """Time whole updates: draw on the device, learn, step, slow critic, write back."""
    learner, replay = make(preset, sizes, device, "auto", "off")
    records = replay.sample().to(learner.device)
    with FlopCounterMode(display=False) as flops:
        learner.step(records)
    with Traffic() as traffic:
        learner.step(records)
    del learner, replay, records
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    learner, replay = make(preset, sizes, device, "auto", compile)
    for _ in range(8):  # past warm-up and recording
        learn(replay, learner)
    alone = timed(lambda: learn(replay, learner), learner.device, repeats)
    settle(learner.device)
    start = time.perf_counter()
    for _ in range(repeats):
        learn(replay, learner)
    issued = time.perf_counter() - start
    settle(learner.device)
    row_ms = 1e3 * (time.perf_counter() - start) / repeats
    done, moved = flops.get_total_flops(), traffic.bytes
    return {
        "preset": preset, "compile": compile, "ms": alone, "ms_in_a_row": row_ms,
        "host_ms": 1e3 * issued / repeats, "gflop": done / 1e9, "tflop_s": done / alone / 1e9,
        "of_matmul": done / alone / 1e9 / peaks[0], "gb": moved / 1e9,
        "of_copy": moved / alone / 1e6 / peaks[1], "operators": traffic.operators,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else "",
        "reserved_gib": torch.cuda.max_memory_reserved() / 2**30 if on_gpu else "",
    }  # fmt: skip


def worlds(envs: list[int], threads: list[int], seconds: float) -> list[dict]:
    """Frames/s of N games by threads, beside as many bare emulators; none without the game."""
    try:
        from bench_env import bare, compare, whole

        return [
            row for n in envs for t in threads if t <= n
            for row in compare([bare(n, t), whole("batched", n, t, "batched")], 3, seconds)
        ]  # fmt: skip
    except (ImportError, ModuleNotFoundError) as error:
        print(f"worlds: not timed, {error}")
        return []


def show(rows: list[dict], path: Path | None = None) -> None:
    """Print rows as a table; write them as CSV too."""
    if not rows:
        return
    cells = [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    table = [list(rows[0]), *cells]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    if path is not None:
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)


def main() -> None:
    """Check, time, print; exit 1 when a check fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cpu", action="store_true", help="tiny, to try the script itself")
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
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
    graphs = ["off"] if args.cpu else ["off", "cudagraph"]
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
    for preset in args.presets:
        checks += check_precision(preset, small, device)
        checks.append(check_graph(preset, small, device, graphs[-1]))
        checks += [check_no_wait(preset, small, device, graph) for graph in graphs]
    print("\ncorrect?")
    for row in checks:
        print(f"  {'yes' if row['good'] else 'NO '}  {row['check']}: {row['found']}", flush=True)
    peaks = ceilings(torch.device(device), args.cpu)
    print(f"\nmeasured here: bf16 product {peaks[0]:.4g} TFLOP/s, copy {peaks[1]:.4g} GB/s\n")
    times = [
        time_update(preset, full, device, graph, args.repeats, peaks)
        for preset in args.presets for graph in graphs
    ]  # fmt: skip
    show(times, file("updates.csv"))
    print()
    games = worlds(args.envs, args.threads, args.seconds)
    show(games, file("worlds.csv"))
    if args.out:
        everything = {"facts": facts, "checks": checks, "peaks": peaks, "updates": times}
        file("bench_gpu.json").write_text(json.dumps(everything | {"worlds": games}, indent=1))
    if not all(row["good"] for row in checks):
        sys.exit("error: a check failed, see above; the times may be of something wrong.")


if __name__ == "__main__":
    main()
