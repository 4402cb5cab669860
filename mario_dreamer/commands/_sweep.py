"""The runs of a sweep (`train -m seed=0,1,2`): their names, and which are finished already."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import time
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from mario_dreamer.config.command_words import MULTIRUN, parse
from mario_dreamer.config.compose import given_overrides
from mario_dreamer.tracking.files import read_metrics
from mario_dreamer.tracking.mlflow.sweep import SWEEP


def announce_sweep(words: list[str]) -> bool:
    """Describe the sweep that this process starts, for its jobs in whatever process they run.

    Returns:
        whether it is one.
    """
    os.environ.pop(SWEEP, None)
    if not any(word in MULTIRUN for word in words):
        return False
    options = [word for word in words if "=" in word and word[0] != "-"]
    swept = []
    with contextlib.suppress(ValueError):  # Hydra says what cannot be read
        swept = [o.input_line for o in parse(options) if o.is_sweep_override()]
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    os.environ[SWEEP] = " ".join([name, *swept])
    return True


def in_sweep() -> bool:
    """Whether this is one job of several, typed with -m."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def job_name() -> str | None:
    """Return what differs between this job and the others, such as `seed=1`; None outside."""
    if not in_sweep():
        return None
    swept = {word.partition("=")[0] for word in os.environ.get(SWEEP, "").split(" ")[1:]}
    typed = given_overrides()
    own = [word for word in typed if word.partition("=")[0] in swept]
    return " ".join(own or typed) or None


def job_command() -> dict[str, str]:
    """Return the tag `command` of one job of a sweep, to type it alone; empty outside.

    The process of a launcher has a command line of its own, which says nothing about the job.
    """
    if not in_sweep():
        return {}
    return {"command": shlex.join(["mario-dreamer", "train", *given_overrides()])}


def finished_before(config: str, runs_dir: Path) -> Path | None:
    """Return the folder of a run that finished with exactly this configuration, if there is one.

    Args:
        config: the job's resolved configuration as YAML, as a run's `config.yaml` holds it.
    """
    for file in sorted(runs_dir.glob("*/config.yaml")):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if file.is_file() and file.read_text("utf-8") == config:
                info = json.loads((file.parent / "run.json").read_text("utf-8"))
                if info.get("status") == "FINISHED":
                    return file.parent
    return None


def last_return(folder: Path) -> float | None:
    """Return the last `play/return_mean` that a run logged, for the sweeper; None without one."""
    with contextlib.suppress(FileNotFoundError, KeyError):  # no metrics, or not this one
        return read_metrics(folder)["play/return_mean"][-1][1]
    return None
