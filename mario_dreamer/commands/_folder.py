"""The folder of a run: one for each run, locked while it trains, gone when nothing came of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import time
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from mario_dreamer.training.checkpoint_files import run_of


def folder_of(cfg: DictConfig, runs: Path, checkpoint: Path | None) -> Path:
    """Return the folder of the run that goes on, or make a new one that nobody else has.

    Args:
        runs: where the folders of all runs are.
        checkpoint: that the run goes on from; None: a new run.

    Raises:
        ValueError: a new run has the name of one that is there.
    """
    if run := run_of(checkpoint):
        return run
    if cfg.name is None:
        return _new_folder(runs, cfg.get("experiment_name") or "run")
    folder = runs / str(cfg.name)
    folder.mkdir(parents=True, exist_ok=True)
    if checkpoint is None and any(folder.glob("checkpoints/step_*")):
        raise ValueError(
            f"{folder} holds a run already. Go on with it by resume={folder}, or give this run "
            "another name=..."
        )
    return folder


def _new_folder(runs: Path, experiment: str) -> Path:
    name = f"{experiment}-{time.strftime('%Y%m%d-%H%M%S')}"
    for folder in (runs / (name if n == 1 else f"{name}-{n}") for n in itertools.count(1)):
        with contextlib.suppress(FileExistsError):  # of a run that began in the same second
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("unreachable")


def remove_if_unused(folder: Path) -> None:
    """Remove the folder of a run that was refused before it wrote anything."""
    if {path.name for path in folder.iterdir()} <= {"lock", "lock.pid"}:
        shutil.rmtree(folder, ignore_errors=True)


def lock(folder: Path) -> FileLock:
    """Keep a run's folder for this process alone, until the returned lock is released.

    Raises:
        ValueError: when another process has it; its pid is named.
    """
    held = FileLock(folder / "lock", timeout=0, thread_local=False)
    owner = folder / "lock.pid"
    try:
        held.acquire()
    except Timeout as error:
        pid = owner.read_text("utf-8").strip() if owner.is_file() else "unknown"
        raise ValueError(
            f"the run folder {folder} is in use by process {pid}. "
            "Stop that process first, or give this run another name=..."
        ) from error
    owner.write_text(str(os.getpid()), "utf-8")
    return held
