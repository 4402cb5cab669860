"""Several processes that train one agent: what they exchange, through torch.distributed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tensordict import TensorDictBase
from torch import Tensor

from mario_dreamer.training.liveness import ended_ranks

SEED_STRIDE = 1_000_003  # between the seeds of two processes
_JOIN = timedelta(minutes=5)
_ANSWER = timedelta(minutes=30)  # an evaluation of process 0 has to fit in


class ProcessLost(RuntimeError):
    """Another process of this training ended or cannot be reached."""


@dataclass(eq=False)
class Processes:
    """The processes of one training; alone, every method returns at once.

    What exchanges something raises ProcessLost when another process ended.
    Tensors of the learner travel over NCCL between GPUs and over gloo between CPUs. Decisions of
    the host travel over gloo always: they wait for the other processes, never for a GPU.

    Args:
        rank: this process, 0 .. size - 1.
        size: number of processes.
        local_size: number of processes on this machine.
        device: where the learner's tensors are.
        shared_folder: a folder that all processes see, see `liveness`; None until there is one.

    Attributes:
        disconnected: a connection broke; nothing can be exchanged any more.
        lost: ranks that were then found to have ended.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1
    device: torch.device = torch.device("cpu")
    shared_folder: Path | None = None
    disconnected: bool = field(default=False, init=False)
    lost: list[int] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._members: list[tuple[str, int]] = []
        self._host: dist.ProcessGroup | None = None
        if self.size > 1:
            self._host = dist.new_group(backend="gloo", timeout=_ANSWER)
            self._members = self.exchange((socket.gethostname(), os.getpid()))

    @property
    def first(self) -> bool:
        """Whether this process logs, evaluates and writes checkpoints."""
        return self.rank == 0

    @property
    def seed_offset(self) -> int:
        """What to add to a seed, so that every process draws numbers of its own."""
        return self.rank * SEED_STRIDE

    def exchange(self, value: Any) -> list[Any]:
        """Return the values, plain Python, of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self._watching():
            dist.all_gather_object(values, value, group=self._host)
        return values

    def from_first(self, question: Callable[[], Any]) -> Any:
        """Return what a function returns in process 0; it is called nowhere else.

        Where it raises, process 0 does, and the others end.
        """
        answer, problem = None, None
        if self.first:
            try:
                answer = question()
            except Exception as error:  # noqa: BLE001 - raised below, when the others know
                problem = error
        answer, failed = self.exchange((answer, problem is not None))[0]
        if problem is not None:
            raise problem
        if failed:
            sys.exit(1)  # process 0 says why
        return answer

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.size == 1:
            return flag
        found = torch.tensor([int(flag)])
        with self._watching():
            dist.all_reduce(found, dist.ReduceOp.MAX, group=self._host)
        return bool(found)

    @torch.no_grad()
    def average_(self, gradients: Callable[[], Tensor], metrics: TensorDictBase) -> None:
        """Replace gradients and 0-dim metrics by their mean over all processes, in place.

        One all-reduce of everything in a row; no host sync, so a CUDA graph can capture it.

        Args:
            gradients: gives all of them in a row, of which they are parts; of the same parameters in
                every process.
            metrics: its 0-dim floats take part; other entries stay.
        """
        if self.size == 1:
            return
        names = sorted(k for k, v in metrics.items() if isinstance(v, Tensor) and v.ndim == 0)
        row = gradients()
        flat = torch.cat([row, *(metrics[name].reshape(1).float() for name in names)])
        with self._watching():
            dist.all_reduce(flat)
        flat /= self.size
        row.copy_(flat[: len(row)])
        for name, mean in zip(names, flat[len(row) :].clone().unbind(), strict=True):
            metrics[name] = mean

    @torch.no_grad()
    def gather(self, tensor: Tensor) -> Tensor:
        """Return [size * N, ...], the tensors [N, ...] of all processes, by rank; no gradient."""
        if self.size == 1:
            return tensor
        found = tensor.new_empty(self.size * len(tensor), *tensor.shape[1:])
        with self._watching():
            dist.all_gather_into_tensor(found, tensor.contiguous())
        return found

    @torch.no_grad()
    def broadcast_(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of process 0."""
        for tensor in tensors if self.size > 1 else ():
            with self._watching():
                dist.broadcast(tensor, src=0)

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self.disconnected = True
            # Connections close when nothing holds the group, not even the frames of the error.
            traceback.clear_frames(error.__traceback__)
            self.close()  # so that those who wait for this process notice as well
            self.lost = ended_ranks(self._members, self.rank, self.shared_folder)
            where = [
                f"process {rank} of {self.size} (pid {pid} on {host})"
                for rank, (host, pid) in enumerate(self._members)
                if rank in self.lost
            ]
            who = ", ".join(where) or f"one of {self.size} processes cannot be reached or"
            reason = re.sub(r"^\[\S*\]\s*", "", str(error).splitlines()[0]).partition(". ")[0][:120]
            raise ProcessLost(f"{who} ended ({reason})") from error

    def survivors(self) -> list[int]:
        """Ranks of the processes that were not found to have ended, in order."""
        return [rank for rank in range(self.size) if rank not in self.lost]

    def close(self) -> None:
        """Leave the group."""
        if self.size > 1 and dist.is_initialized():
            self._host = None
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()


def join(device: str = "auto") -> Processes:
    """Join the processes that torchrun started; alone where it started none.

    torchrun says by environment variables who this process is: RANK, WORLD_SIZE, LOCAL_RANK,
    LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT.

    Args:
        device: the run's `device`; on GPUs every process of a machine takes one of its own.

    Raises:
        ValueError: more processes than GPUs, one GPU named for all, such as mps, or a variable
            that is no number.
        ConnectionError: the port is in use, or processes did not come in time.
    """
    size = _env_number("WORLD_SIZE", "1", least=1)
    if size == 1:
        return Processes()
    rank = _env_number("RANK")
    local_rank = _env_number("LOCAL_RANK", str(rank))
    local_size = _env_number("LOCAL_WORLD_SIZE", str(size), least=1)
    if rank >= size or local_rank >= local_size:
        raise ValueError(
            f"$RANK={rank} of $WORLD_SIZE={size} and $LOCAL_RANK={local_rank} of $LOCAL_WORLD_SIZE="
            f"{local_size}: ranks begin at 0. Start with torchrun."
        )
    if device == "mps":
        raise ValueError(f"device=mps serves one process, not {size}; set device=cpu.")
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_gpu:
        _check_gpus(device, local_size)
        torch.cuda.set_device(local_rank)
    try:
        with _killable():
            dist.init_process_group("nccl" if on_gpu else "gloo", timeout=_JOIN)
        place = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
        return Processes(rank, size, local_size, place)
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = str(error).splitlines()[0][:200]
        if "EADDRINUSE" in str(error) or "in use" in str(error):
            reason = "this port is in use; choose another one with --master-port, or --standalone"
        raise ConnectionError(
            f"process {rank} of {size} cannot join at {address}: {reason}"
        ) from error


@contextlib.contextmanager
def _killable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the process at once: Python's handlers wait for C++ here."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    is_main = threading.current_thread() is threading.main_thread()
    before = [(n, signal.signal(n, signal.SIG_DFL)) for n in numbers] if is_main else []
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _env_number(name: str, default: str = "", least: int = 0) -> int:
    """A number that torchrun gave this process."""
    value = os.environ.get(name, default)
    if not value.isdecimal() or int(value) < least:
        raise ValueError(
            f"${name} is {value!r}, expected a number from {least}: unset it, or start with torchrun."
        )
    return int(value)


def _check_gpus(device: str, local_size: int) -> None:
    gpus = torch.cuda.device_count()
    if local_size > gpus:
        raise ValueError(
            f"{local_size} processes on this machine, but torch sees {gpus} GPUs: every process "
            f"needs one. Start torchrun with --nproc_per_node={gpus or 1}, or set device=cpu."
        )
    if device.startswith("cuda:"):
        raise ValueError(
            f"device={device} names one GPU for {local_size} processes; set device=cuda."
        )


def check_same(processes: Processes, what: str, value: str) -> None:
    """Unless all processes were given the same, raise ValueError with the line that differs."""
    values = processes.exchange(value)
    differ = [rank for rank, other in enumerate(values) if other != values[0]]
    if not differ:
        return
    if not processes.first:
        sys.exit(1)  # process 0 says it
    lines = zip(values[0].splitlines(), values[differ[0]].splitlines(), strict=False)
    unequal = (pair for pair in lines if pair[0] != pair[1])
    first, second = next(unequal, ("its end", "more or fewer lines"))
    raise ValueError(
        f"{what} differs between the processes: process 0 has {first.strip()!r}, process "
        f"{differ[0]} {second.strip()!r}. Start all of them with the same command, from the same "
        "code."
    )
