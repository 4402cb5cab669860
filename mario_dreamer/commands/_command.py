"""What the commands share: Hydra's options, a bare path, a run folder's lock, errors in one line."""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import hydra
import torch
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mario_dreamer.config.compose import CONFIGS
from mario_dreamer.config.moved import with_new_targets
from mario_dreamer.training.checkpoint_files import CheckpointError
from mario_dreamer.training.learner import NonFiniteLoss
from mario_dreamer.training.loop import WorldFailed

__all__ = ["command", "entry_point", "lock", "with_bare_path"]

EXPECTED = (
    ValueError, KeyError, CheckpointError, NonFiniteLoss, ImportError, HydraException,
    OmegaConfBaseException, WorldFailed, OSError, MemoryError, torch.OutOfMemoryError,
)  # fmt: skip


NO_MEMORY = "can't allocate memory"  # torch's words on a CPU


def command(
    config_name: str, path: str = "checkpoint", recording: str | None = None
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], Any]]:
    """Make a function a program: Hydra's options, a bare path, errors in one line.

    Args:
        config_name: the file in configs/ that holds its options.
        path, recording: the options that a path which comes first stands for, see `with_bare_path`.
    """

    def make(function: Callable[[DictConfig], Any]) -> Callable[[], Any]:
        configured = hydra.main(version_base="1.3", config_path=CONFIGS, config_name=config_name)
        with_options = configured(entry_point(function))

        @functools.wraps(function)
        def main() -> Any:
            sys.argv[1:] = with_bare_path(sys.argv[1:], path, recording)
            if config_name != "train":
                sys.argv[1:] = with_env_options(sys.argv[1:])
            return with_options()

        return main

    return make


def with_bare_path(
    arguments: list[str], path: str = "checkpoint", recording: str | None = None
) -> list[str]:
    """Let a path that comes first stand for `checkpoint=PATH`.

    Args:
        arguments: as typed.
        path: the option it stands for.
        recording: the option that a .json stands for; None: the same.

    Examples:
        >>> with_bare_path(["runs/a", "port=9000"])
        ["checkpoint='runs/a'", 'port=9000']
        >>> with_bare_path(["best.json"], recording="recording")
        ["recording='best.json'"]
    """
    if not arguments or "=" in arguments[0] or arguments[0].startswith(("-", "+", "~")):
        return arguments
    option = recording if recording and arguments[0].endswith(".json") else path
    quoted = arguments[0].replace("\\", "\\\\").replace("'", "\\'")
    return [f"{option}='{quoted}'", *arguments[1:]]


def with_env_options(arguments: list[str]) -> list[str]:
    """Let `env.NAME=VALUE` add an option to `env: {}`; the agent's env says which it has.

    >>> with_env_options(["env.stage=1-2", "seed=1"])
    ['++env.stage=1-2', 'seed=1']
    """
    return [f"++{word}" if word.startswith("env.") else word for word in arguments]


def entry_point(function: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Turn what a user can cause into one clear line on the screen and exit code 1.

    SIGTERM ends it in one line as well, with exit code 143; a training that is under way saves
    first and a viewer that serves closes its pages. MARIO_DREAMER_TRACEBACK=1 shows tracebacks.

    Args:
        function: takes the configuration.
    """

    @functools.wraps(function)
    def guarded(cfg: DictConfig) -> Any:
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
        logging.getLogger("torchrl").setLevel(logging.WARNING)  # it greets every storage
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _terminated)
        try:
            return function(with_new_targets(cfg))
        except KeyboardInterrupt:
            print("left at once, as asked", file=sys.stderr)
            sys.exit(130)
        except (*EXPECTED, RuntimeError) as error:
            known = isinstance(error, EXPECTED) or NO_MEMORY in str(error)
            if os.environ.get("MARIO_DREAMER_TRACEBACK") or not known:
                raise
            print(f"error: {_root(error)}", file=sys.stderr)
            sys.exit(1)

    return guarded


def _terminated(number: int, frame: FrameType | None) -> None:
    print("SIGTERM: left at once", file=sys.stderr)
    sys.exit(128 + number)


def _root(error: BaseException) -> str:
    """Our own message, from below the layers of whoever passed it on."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or NO_MEMORY in str(error):
        reason = (str(error).strip().splitlines() or ["MemoryError"])[0][:200]
        return f"out of memory ({reason}). Lower batch_size, batch_length or replay.capacity."
    while isinstance(error, HydraException) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    return str(error)


def lock(folder: Path) -> TextIO:
    """Keep a run's folder for this process alone, until the returned file is closed.

    Args:
        folder: the run's folder; it exists.

    Raises:
        ValueError: when another process has it; its pid is named.
    """
    file = (folder / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise ValueError(
            f"the run folder {folder} is in use by process {file.read().strip() or 'unknown'}. "
            "Stop that process first, or give this run another name=..."
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
