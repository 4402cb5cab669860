"""Run a command: Hydra's options, the jobs of a sweep, errors in one line."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
import torch
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mario_dreamer.commands import _sweep
from mario_dreamer.config.command_line import CONFIGS
from mario_dreamer.config.compose import given_overrides
from mario_dreamer.config.contracts import root_cause
from mario_dreamer.config.stored import with_new_targets
from mario_dreamer.config.tracebacks import shows_tracebacks
from mario_dreamer.envs.base import EnvFailed
from mario_dreamer.training.checkpoint_files import CheckpointError
from mario_dreamer.training.distributed import ProcessLost
from mario_dreamer.training.finite import NonFiniteLoss

EXPECTED = (
    ValueError, KeyError, CheckpointError, NonFiniteLoss, ImportError, HydraException,
    OmegaConfBaseException, EnvFailed, ProcessLost, OSError, MemoryError, torch.OutOfMemoryError,
)  # fmt: skip
# Windows has no SIGHUP.
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
NO_MEMORY = "can't allocate memory"  # torch's words on a CPU

Command = Callable[[DictConfig], Any]
# Environment variable: a file to which the failed jobs of a sweep are written, in whatever process
# a launcher runs them.
FAILED_JOBS = "MARIO_DREAMER_FAILED_JOBS"


def run(name: str, function: Command, words: list[str]) -> None:
    """Run a command: Hydra's options, a sweep's jobs, errors in one line.

    Args:
        name: of the command, and of the file in configs/ that holds its options.
        function: takes the configuration.
        words: of `checked_words`.

    Raises:
        SystemExit: with 1 where jobs of a sweep failed, or its launcher or sweeper did.
    """
    configured = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)
    sys.argv = [f"mario-dreamer {name}", *words]
    start = configured(entry_point(function))
    if not _sweep.announce_sweep(words):  # before Hydra hands the jobs to other processes
        start()
        return
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises what a launcher raises
    with tempfile.TemporaryDirectory(prefix="mario-dreamer-failed-") as folder:
        file = Path(folder, "jobs.txt")  # Windows opens no temporary file twice
        os.environ[FAILED_JOBS] = str(file)
        try:
            start()
        except Exception as error:  # of a launcher or sweeper, or a fault in a job
            calls = traceback.extract_tb(error.__traceback__)
            if shows_tracebacks() or any(call.name == "guarded" for call in calls):
                raise
            sys.exit(f"error: {_root(error)}")
        failed = file.read_text("utf-8").splitlines() if file.exists() else []
    if failed:
        runs = "run" if len(failed) == 1 else "runs"
        print(f"error: {len(failed)} {runs} failed: {'; '.join(failed)}", file=sys.stderr)
        sys.exit(1)


def entry_point(function: Command) -> Command:
    """Turn what a user can cause into one clear line on the screen and exit code 1.

    A failed job of a sweep lets the others run. SIGTERM and SIGHUP end the process in one line as
    well, with exit code 128 + signal; a training in progress saves first and a viewer that serves
    closes its pages. MARIO_DREAMER_TRACEBACK=1 shows tracebacks.
    """

    @functools.wraps(function)
    def guarded(cfg: DictConfig) -> Any:
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
        logging.getLogger("torchrl").setLevel(logging.WARNING)  # it greets every storage
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                    signal.signal(number, _terminated)
            # While Python ends other packages clean up, and would print tracebacks.
            atexit.register(too_late_to_stop)
            atexit.register(signal.signal, signal.SIGINT, lambda *_: os._exit(130))
        try:
            return function(with_new_targets(cfg))
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)  # nobody reads any more: as for other programs in a pipe
        except (*EXPECTED, RuntimeError) as error:
            known = isinstance(error, EXPECTED) or NO_MEMORY in str(error)
            if shows_tracebacks() or not known:
                raise
            print(f"error: {_root(error)}", file=sys.stderr)
            if not _sweep.in_sweep():
                sys.exit(1)
            with contextlib.suppress(OSError):  # on another machine, which a launcher chose
                with open(os.environ.get(FAILED_JOBS, ""), "a", encoding="utf-8") as file:
                    file.write(" ".join(given_overrides()) + "\n")

    return guarded


def too_late_to_stop() -> None:
    """Ignore SIGTERM and SIGHUP from now on: all is saved, and the last lines are to be printed.

    torchrun sends SIGTERM to those that are about to say which process was lost.
    """
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            if signal.getsignal(number) is _terminated:
                signal.signal(number, lambda *_: None)


def exit_code(reason: str) -> int:
    """Return a shell's exit code for what ended a process early.

    Args:
        reason: a signal's name, or other words: nobody reads stdout, or the launcher ended.

    Examples:
        >>> exit_code("SIGINT"), exit_code("SIGTERM"), exit_code("stdout closed")
        (130, 143, 141)
    """
    return 128 + (signal.Signals[reason] if reason in signal.Signals.__members__ else 13)


def _terminated(number: int, frame: FrameType | None) -> None:
    print(f"{signal.Signals(number).name}: stopped at once", file=sys.stderr)
    sys.exit(128 + number)


def _root(error: BaseException) -> str:
    """Our own message, from below the layers of whoever passed it on."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or NO_MEMORY in str(error):
        reason = (str(error).strip().splitlines() or ["MemoryError"])[0][:200]
        return f"out of memory ({reason}). Lower batch_size, batch_length or replay.capacity."
    error = root_cause(error)
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) if isinstance(error, OmegaConfBaseException) else str(error)
