"""Find, verify and read checkpoint folders; nothing here writes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from mario_dreamer.tracking.append_only import parse_row

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
OLD = ".old"
BEST = "best"  # copy of the checkpoint with the best evaluation, next to the newest ones
OWN_NAME = re.compile(r"step_\d{9,}(\.old)?")
SMALL = 2**20  # bytes of a manifest or a configuration, at most


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged or of another kind than asked for."""


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint folders by our own names, newest first, checked or not.

    Files, dangling links and folders by other names, such as copies of a user, are left out.
    """
    try:
        own = [path for path in folder.iterdir() if OWN_NAME.fullmatch(path.name)]
    except OSError:  # not there, not a folder, not ours to read
        return []
    return sorted(filter(os.path.isdir, own), key=age, reverse=True)


def age(path: Path) -> tuple[int, bool]:
    """Sort key of checkpoints, old to new; of one step, the one saved last is the newest."""
    return int(path.name.removesuffix(OLD).removeprefix("step_")), path.suffix != OLD


def newest_whole(folder: Path) -> Path | None:
    """Return the newest checkpoint that is whole; log each damaged one that is skipped."""
    for path in list_checkpoints(folder):
        damage = verify(path)
        if damage is None:
            return path
        log.warning("skipping the damaged checkpoint %s: %s", path, damage)
    return None


def file_info(path: Path) -> dict[str, Any]:
    """Return size and SHA-256 sum of a file, as a manifest holds them."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def read_small_text(path: Path, most: int = SMALL) -> str:
    """Read a manifest, a configuration, an action list.

    Args:
        path: a regular file; a pipe or a device would make the reader wait for ever.

    Raises:
        OSError: it cannot be read. ValueError: not a regular file, too large, or not UTF-8.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path.name} is not a regular file")
    if found.st_size > most:
        raise ValueError(f"{path.name} has {found.st_size:,} bytes, more than {most:,}")
    return path.read_text(encoding="utf-8")


def verify(path: Path, only: str | None = None) -> str | None:
    """Return what is wrong with a checkpoint folder; None when every byte is as it was written.

    Args:
        only: look at this file alone; None for all of them.
    """
    try:
        manifest = json.loads(read_small_text(path / MANIFEST))["files"]
        if only is not None and only not in manifest:
            return f"{only} is not in {MANIFEST}"
        for name, written in manifest.items():
            if only not in (None, name):
                continue
            if Path(name).name != name:
                return f"the manifest names a file outside the folder: {name!r}"
            if not (path / name).is_file():
                return f"{name} is missing"
            size = (path / name).stat().st_size
            if size != written["bytes"] or file_info(path / name) != written:
                return (
                    f"{name} differs from what was written "
                    f"({size} bytes found, {written['bytes']} written)"
                )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__}: {error})"
    return None


def read(path: str | Path, stem: str) -> Any:
    """Load one file of a checkpoint, tensors and plain Python only: nothing in it can run.

    Args:
        stem: "agent", "learning" or "replay".

    Raises:
        CheckpointError: when the file is missing, damaged, or holds more than data.
    """
    file = Path(path) / f"{stem}.pt"
    if not file.is_file():
        raise CheckpointError(
            f"{file} is not there; a checkpoint is a folder step_* holding it. "
            "Give the path of a run folder or of a checkpoint."
        )
    damage = verify(Path(path), only=file.name)
    if damage is not None:
        raise CheckpointError(f"the checkpoint {path} is damaged: {damage}. Use another one.")
    try:
        # Records are read where they lie: there may be more of them than memory holds.
        mapped = stem not in ("agent", "learning")
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises many kinds for a file that is not what it should be
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{file} cannot be loaded: {reason}. Use another one.") from error


def find_run(where: str, runs_dir: str | Path) -> Path:
    """Find the checkpoint that `latest`, `best`, a run folder or a checkpoint folder means.

    Args:
        where: "latest" (newest whole checkpoint of the newest run), "best" (the best evaluated
            one of the newest run that has one), or the path of a run, of its `checkpoints` or of
            a checkpoint; also from inside of them, such as "." or "step_000010000".
        runs_dir: folder of the runs, for "latest" and "best".

    Raises:
        CheckpointError: when there is none.
    """
    if where in ("latest", BEST):
        folders = [f for f in Path(runs_dir).glob("*/checkpoints") if os.path.isdir(f)]
        for folder in sorted(folders, key=os.path.getmtime, reverse=True):  # written to last first
            if where == BEST:
                if verify(folder / BEST) is None:
                    return folder / BEST
            elif (found := newest_whole(folder)) is not None:
                return found
            else:
                log.warning("%s holds no whole checkpoint; looking at older runs", folder.parent)
    else:
        path = Path(os.path.abspath(where))
        inside = path / "checkpoints"
        if (path / MANIFEST).exists() or OWN_NAME.fullmatch(path.name):
            damage = verify(path)
            if damage is not None:
                raise CheckpointError(f"the checkpoint {path} is damaged: {damage}.")
            return path
        found = newest_whole(inside if inside.is_dir() else path)
        if found is not None:
            return found
    raise CheckpointError(
        f"no whole checkpoint found for {where!r} (runs are looked for in {Path(runs_dir)}). "
        "Train first, or give the path of a run folder or of a checkpoint folder."
    )


def run_of(checkpoint: Path | None) -> Path | None:
    """Return the folder of the run that a checkpoint lies in; None where it lies in none."""
    in_run = checkpoint is not None and checkpoint.parent.name == "checkpoints"
    return checkpoint.parents[1] if in_run else None


def shipped_checkpoint() -> Path | None:
    """Return the checkpoint that comes with the package, if it does."""
    path = Path(str(files("mario_dreamer"))) / "shipped"
    return path if (path / MANIFEST).is_file() else None


def find_checkpoint(where: str, runs_dir: str) -> Path | None:
    """Return the folder that `checkpoint=` or `init_from=` means; None: an untrained agent.

    Args:
        where: none | shipped | auto | latest | best | a run or checkpoint folder.

    Raises:
        CheckpointError: when there is no whole checkpoint.
    """
    if where == "none":
        return None
    if where == "shipped":
        if (shipped := shipped_checkpoint()) is None:
            raise CheckpointError("no checkpoint came with this installation; train one first.")
        return shipped
    if where != "auto":
        return find_run(where, runs_dir)
    if any(Path(runs_dir).glob("*/checkpoints/step_*")):
        return find_run("latest", runs_dir)
    return shipped_checkpoint()


def steps_of(checkpoint: Path) -> int | None:
    """Return the agent steps a checkpoint was trained for; None when it does not say."""
    step = read_manifest(checkpoint).get("step")
    return step if isinstance(step, int) else None


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """Return a checkpoint's manifest: its step, its files' sums; empty when unreadable."""
    try:
        return parse_row(read_small_text(checkpoint / MANIFEST)) or {}
    except (OSError, ValueError):
        return {}
