"""What the entry points share: where configurations lie, run folders, errors in one line."""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import hydra
import torch
from hydra import compose, initialize_config_dir, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mario_dreamer.rules import check_numbers
from mario_dreamer.training.checkpoint import CheckpointError
from mario_dreamer.training.learner import NonFiniteLoss
from mario_dreamer.training.loop import WorldFailed

__all__ = [
    "CONFIGS", "check_numbers", "command", "compose_default", "entry_point", "given_overrides",
    "lock", "set_threads", "stored_config", "with_bare_path",
]  # fmt: skip

HERE = Path(__file__).resolve().parents[1] / "configs"
# Installed, the configurations are a package; in a bare checkout they are a folder.
CONFIGS = "pkg://mario_dreamer.configs" if find_spec("mario_dreamer.configs") else str(HERE)

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
            return function(cfg)
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


def given_overrides() -> list[str]:
    """Return what was typed on the command line after the command."""
    return list(HydraConfig.get().overrides.task)


def stored_config(checkpoint: Path, overrides: list[str]) -> tuple[DictConfig, list[str]]:
    """Return the configuration a checkpoint was made with, changed by values typed now.

    Args:
        checkpoint: its folder.
        overrides: such as `steps=200000`; choices such as `size=size25m` cannot be changed
            any more and are returned as the second result.

    Raises:
        CheckpointError: when the configuration is not there.
        ValueError: when a value is named that the configuration does not have.
    """
    file = checkpoint / "config.yaml"
    if not file.is_file():
        raise CheckpointError(f"{file} is missing: the checkpoint cannot be used without it.")
    try:
        cfg = OmegaConf.load(file)
        OmegaConf.to_container(cfg, resolve=True)
    except Exception as error:  # yaml, OmegaConf and Unicode have many words for "not readable"
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{file} is not a configuration ({reason}).") from error
    if not isinstance(cfg, DictConfig) or "env" not in cfg:
        raise CheckpointError(f"{file} is not a run's configuration; it holds no `env`.")
    values, choices = [], []
    for override in overrides:
        name = override.lstrip("+~").split("=", 1)[0]
        is_choice = "@" in name or OmegaConf.is_dict(OmegaConf.select(cfg, name.replace("/", ".")))
        (choices if is_choice or name == "experiment" else values).append(override)
    for value in OverridesParser.create().parse_overrides(values):  # as the command line is read
        name = value.key_or_group
        if not value.is_add() and not _has(cfg, name):
            raise ValueError(
                f"{name!r} is not in the run's configuration {file}. Look it up there, or add it "
                f"with +{name}=..."
            )
        OmegaConf.update(cfg, name, value.value(), force_add=True)
    return cfg, choices


def _has(cfg: DictConfig, name: str) -> bool:
    *path, leaf = name.split(".")
    parent = OmegaConf.select(cfg, ".".join(path)) if path else cfg
    return OmegaConf.is_dict(parent) and leaf in parent


def compose_default(overrides: list[str] | None = None) -> DictConfig:
    """Compose configs/train.yaml outside of a training command.

    Args:
        overrides: choices and values, as typed on a command line; None: the laptop experiment.
    """
    GlobalHydra.instance().clear()
    start = initialize_config_module if CONFIGS.startswith("pkg://") else initialize_config_dir
    with start(CONFIGS.removeprefix("pkg://"), version_base="1.3"):
        return compose("train", overrides or ["experiment=laptop"])


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


def set_threads(threads: int | None) -> None:
    """Let torch compute with so many threads on CPU; None takes one per core."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
