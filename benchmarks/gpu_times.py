"""How fast is an update on a GPU, and the worlds next to it? The timings of bench_gpu.py."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from gpu_checks import make
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mario_dreamer.training.loop import learn


def settle(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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


def kernels(
    function: Callable[[], Any], device: torch.device, trace: Path | None = None, most: int = 40
) -> list[dict]:
    """The kernels of one call by name, most time first; on a CPU its operators.

    Args:
        trace: a file for all of them in order, as chrome://tracing reads it.
    """
    on_gpu = device.type == "cuda"
    kind = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    with profile(activities=[kind], acc_events=True) as seen:
        function()
        settle(device)
    if trace is not None:
        seen.export_chrome_trace(str(trace))
    rows = [
        {
            "kernel": event.key[:100],
            "calls": event.count,
            "ms": (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e3,
        }
        for event in seen.key_averages()
    ]
    rows.sort(key=lambda row: -row["ms"])
    whole = {name: sum(row[name] for row in rows) for name in ("calls", "ms")}
    return [{"kernel": "all", **whole}, *rows[:most]]


def time_update(
    preset: str, sizes: list[str], device: str, compile: str, repeats: int, peaks: tuple,
    found: list[dict], lock: Path | None = None, traces: Path | None = None,
) -> dict:  # fmt: skip
    """Time whole updates: draw on the device, learn, step, slow critic, write back.

    Args:
        found: gets the kernels of one more.
        lock: a file; scripts that share it take turns with the device, and compile side by side.
        traces: a folder for that one's kernels in order.
    """
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
    settle(learner.device)
    with contextlib.nullcontext() if lock is None else FileLock(lock):
        alone = timed(lambda: learn(replay, learner), learner.device, repeats)
        settle(learner.device)
        start = time.perf_counter()
        for _ in range(repeats):
            learn(replay, learner)
        issued = time.perf_counter() - start
        settle(learner.device)
        row_ms = 1e3 * (time.perf_counter() - start) / repeats
        trace = None if traces is None else traces / f"{preset}_{compile}.json.gz"
        for row in kernels(lambda: learn(replay, learner), learner.device, trace):
            found.append({"preset": preset, "compile": compile, **row})
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
    """Frames/s of N games by threads, next to as many bare emulators; none without the game."""
    try:
        from bench_env import bare, compare, whole

        return [
            row for n in envs for t in threads if t <= n
            for row in compare([bare(n, t), whole("batched", n, t, "batched")], 3, seconds)
        ]  # fmt: skip
    except (ImportError, ModuleNotFoundError) as error:
        print(f"worlds: not timed, {error}")
        return []
