"""Options that must fit each other, and places that results go to; checked before a run."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mario_dreamer.config.limits import RULES

OPEN = ("hydra", "env", "encoders", "decoders", "experiment_name")  # hold names of anybody's choice
MOST_PLAYED = 100_000  # agent steps before a film is written; minutes


def check_together(command: str, cfg: DictConfig) -> None:
    """Refuse options that are right alone and wrong together.

    Args:
        cfg: its configuration; each number is checked already.

    Raises:
        ValueError: naming the options and what would fit.
    """
    option = "runs_dir" if command == "train" else "out"
    if cfg.get(option) is not None:
        is_folder = command in ("train", "evaluate") or cfg.get("format") == "mlflow"
        check_writable(option, cfg[option], is_folder)
    if command in CHECKS:
        CHECKS[command](cfg)


def _train(cfg: DictConfig) -> None:
    capacity, envs = cfg.replay.get("capacity"), cfg.collector.get("num_envs", 1)
    if capacity is not None and cfg.batch_length > capacity // envs:
        raise ValueError(
            f"batch_length={cfg.batch_length} does not fit into replay: each of {envs} envs has "
            f"{capacity // envs} of replay.capacity={capacity} records. Raise replay.capacity to "
            f"{cfg.batch_length * envs} or lower batch_length."
        )
    if cfg.replay.get("path"):
        check_writable("replay.path", cfg.replay.path, is_folder=True)
    if cfg.imagination_starts == 1 and cfg.loss.critic.get("replay_scale", 0.3) > 0:
        raise ValueError(
            "imagination_starts=1: the critic also learns from the returns of the recorded states, "
            "which need two of them. Give 2 or more, or loss.critic.replay_scale=0."
        )
    low, high = cfg.actor.get("min_std"), cfg.actor.get("max_std")
    if low is not None and high is not None and low > high:
        raise ValueError(f"actor.min_std={low} is above actor.max_std={high}.")


def _dream(cfg: DictConfig) -> None:
    played = cfg.rows * (cfg.start + 4 * cfg.steps)
    if played > MOST_PLAYED:
        raise ValueError(
            f"rows={cfg.rows} start={cfg.start} steps={cfg.steps} play {played:,} agent steps "
            f"(rows * (start + 4 * steps)), more than {MOST_PLAYED:,}. Lower one of them."
        )
    if cfg.context >= cfg.steps:
        raise ValueError(
            f"context={cfg.context} steps of steps={cfg.steps} are seen, so none is predicted. "
            f"Give steps={cfg.context + 48} or a smaller context."
        )


def _export(cfg: DictConfig) -> None:
    if cfg.register is not None and cfg.format != "mlflow":
        raise ValueError("register=... registers an MLflow model; add format=mlflow.")
    if cfg.format == "pt2" and cfg.out is not None and Path(str(cfg.out)).suffix != ".pt2":
        raise ValueError(f"out={cfg.out}: the program is a file ending in .pt2.")


def check_writable(option: str, path: str | Path, is_folder: bool = False) -> None:
    """Refuse a file or folder, named by an option, that cannot be written; nothing is made yet.

    Raises:
        ValueError: naming the option, the place and what is wrong with it.
    """
    try:
        place = Path(os.path.abspath(path))
        problem = _problem(place, is_folder)
    except UnicodeEncodeError:
        problem = "its name is not UTF-8, and torch reads no such file"
    except OSError as error:
        problem = str(error.strerror)
    if problem:
        raise ValueError(f"cannot write to {option}={path}: {problem}. Choose another {option}.")


def _problem(path: Path, is_folder: bool) -> str:
    """What is wrong with a place; a file that vanishes at once is written next to it."""
    str(path).encode()
    try:
        if stat.S_ISDIR(path.stat().st_mode) != is_folder:
            return "a file is there" if is_folder else "a folder is there"
        near = path if is_folder else path.parent
    except FileNotFoundError:
        if is_folder and path.is_symlink():
            return "a link that leads nowhere is there"
        near = next(parent for parent in path.parents if os.path.lexists(parent))
    with tempfile.TemporaryFile(dir=near):
        return ""


def is_read(cfg: DictConfig, name: str) -> bool:
    """Whether an option of a dotted name can have an effect: it is there, or a class is built with it."""
    parts = name.split(".")
    above = [OmegaConf.select(cfg, ".".join(parts[:length])) for length in range(1, len(parts))]
    built = any(isinstance(part, DictConfig) and "_target_" in part for part in above)
    return built or has_option(cfg, name) or parts[0] in OPEN or name in RULES


def has_option(cfg: DictConfig, name: str) -> bool:
    """Whether a configuration has an option of a dotted name."""
    path, _, leaf = name.rpartition(".")
    group = OmegaConf.select(cfg, path) if path else cfg
    return OmegaConf.is_dict(group) and leaf in group


CHECKS: dict[str, Callable[[DictConfig], None]] = {
    "train": _train, "dream": _dream, "export": _export,
}  # fmt: skip
