"""Compilation and CUDA graphs, wrapped around the one code path."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
from collections.abc import Callable

import torch
from tensordict import TensorDictBase

from mario_dreamer.networks.branches import Branches, branching
from mario_dreamer.networks.regions import compiled_regions

# off: as written. on: regions compiled. cudagraph: one graph of the whole update. Or both.
MODES = ("off", "on", "cudagraph", "on+cudagraph")


def resolve_device(name: str) -> torch.device:
    """Turn the run's `device` into a device that is there.

    Args:
        name: "auto" (a CUDA GPU, else Apple's, else the CPU), "cpu", "mps", "cuda" or "cuda:N".

    Raises:
        ValueError: for another word, or when a GPU is asked for and there is none.
    """
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    if not re.fullmatch(r"cpu|mps(:0)?|cuda(:\d+)?", str(name)):
        expected = "expected auto, cpu, mps, cuda or cuda:N"
        raise ValueError(f"device={name!r} is not a device; {expected}.")
    device = torch.device(name)
    there = {"mps": has_mps, "cuda": torch.cuda.is_available()}
    if not there.get(device.type, True):
        gpu = "Apple" if device.type == "mps" else "CUDA"
        raise ValueError(
            f"device={name!r} was asked for, but this machine shows torch no {gpu} GPU "
            f"(torch {torch.__version__}). Set device=cpu or device=auto."
        )
    if device.type == "cuda" and device.index is None:
        # By its full name: "cuda" does not equal "cuda:0", and a collector that finds weights on
        # another device than it was given plays with a copy of the policy.
        device = torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps", 0) if device.type == "mps" else device


def keep_freed_memory() -> None:
    """Let this process keep the memory it frees, for the next update of the same shapes.

    By default glibc hands every large tensor back to the kernel, which then has to clear new
    pages for the next one: 9 to 16 % of a `seed` update, 1 % of a `laptop` one, where it was
    measured (AMD EPYC, 2026-11). The peak of use rose by 5 %.
    """
    if platform.libc_ver()[0] == "glibc":  # on Linux; the others cannot be set so
        trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX in malloc.h
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, ctypes.c_int(2**31 - 1))


Update = Callable[[TensorDictBase], TensorDictBase]


def accelerate(function: Update, mode: str, device: torch.device) -> Update:
    """Have the networks' regions compiled while `function` runs, where the mode has "on" in it.

    The first update then takes a minute or so, see `mario_dreamer.networks.regions`.

    Raises:
        ValueError: for another word, for cudagraph without a GPU, for "on" without a C++ compiler.
    """
    return compiled_regions()(function) if "on" in _checked(mode, device) else function


def capture(function: Update, mode: str, device: torch.device) -> Update:
    """Make a `GraphedUpdate` where the mode has "cudagraph" in it; else the function as it is."""
    is_graphed = "cudagraph" in _checked(mode, device)
    return GraphedUpdate(function, device) if is_graphed else function


class GraphedUpdate:
    """Record the kernels of an update once and launch them all at once from then on.

    A recorded graph reads and writes the same memory each time: records are copied to where the
    recording found them, and the results lie still until the next call overwrites them. Nothing
    waits for the device. (tensordict's `CudaGraphModule` waits for it at every call, and runs the
    update one time more than it is called.)

    Args:
        function: TensorDict -> TensorDict without gradients. Waits for no number, keeps its
            shapes, and changes its state in place; random numbers come from the device's own
            generator, which moves on with each replay.
        device: where it runs, a GPU.
        warmup: ordinary calls before the recording; the first ones make the optimiser's state
            and let the libraries choose their kernels.
    """

    def __init__(self, function: Update, device: torch.device, warmup: int = 5) -> None:
        self.function, self.device, self.warmup = function, device, warmup
        self.stream = torch.cuda.Stream(device, priority=-1)  # before those without high priority
        self.branches = Branches()
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: TensorDictBase | None = None
        self.outputs: TensorDictBase | None = None

    def __call__(self, records: TensorDictBase) -> TensorDictBase:
        """Take one update; the same keys, shapes and types at every call."""
        with torch.cuda.device(self.device):
            if self.warmup > 0:
                self.warmup -= 1
                return self._run(records)
            if self.graph is None:
                self._record(records)
            for key, value in self.inputs.items():
                value.copy_(records.get(key), non_blocking=True)
            self.graph.replay()
            return self.outputs.copy()  # the caller may drop keys from its copy

    def _run(self, records: TensorDictBase) -> TensorDictBase:
        """An ordinary call, on the stream that will record: what autograd keeps belongs there."""
        here = torch.cuda.current_stream()
        self.stream.wait_stream(here)
        try:
            with torch.cuda.stream(self.stream), branching(self.branches):
                return self.function(records)
        finally:
            here.wait_stream(self.stream)

    def _record(self, records: TensorDictBase) -> None:
        self.inputs = records.clone()
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on allocating meanwhile: replay reads ahead, trackers look around.
        with (
            torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"),
            branching(self.branches),
        ):
            self.outputs = self.function(self.inputs.copy())
        self.graph = graph


def _checked(mode: str, device: torch.device) -> list[str]:
    """The words of a mode that can be; YAML reads `off` and `on` as booleans."""
    word = {"False": "off", "True": "on"}.get(str(mode), str(mode))
    if word not in MODES:
        raise ValueError(f"compile={mode!r}: expected {', '.join(MODES[:-1])} or {MODES[-1]}.")
    words = word.split("+")
    if "cudagraph" in words and device.type != "cuda":
        raise ValueError(
            f"compile={word} needs a CUDA GPU; this run is on {device}. Set compile=off."
        )
    compilers = [os.environ.get("CXX") or "g++", "c++", "clang++"]
    if "on" in words and not any(map(shutil.which, compilers)):
        raise ValueError(
            f"compile={word} needs a C++ compiler, and none of {', '.join(compilers)} is on the "
            "PATH. Install one (Debian: apt install g++), or set compile=off."
        )
    return words
