"""Checkpoints: everything that a run goes on from, whole on disk or not there at all."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch

__all__ = ["CheckpointError", "Checkpoints", "find_run", "read", "verify"]

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
OLD = ".old"


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged or of another kind than asked for."""


class Checkpoints:
    """Save a run so that a kill at any moment loses nothing that was saved before.

    A checkpoint is a folder `step_<agent steps>` of files made by `torch.save`. It is written
    under a temporary name, forced to disk, described by a manifest of sizes and SHA-256 sums,
    and only then renamed: a folder with its final name is complete. A step that is saved once
    more keeps its first folder as `step_<agent steps>.old` until the second one is there.

        agent.pt      weights of world model, actor, critic, slow critic, return statistics
        learning.pt   optimiser, update ratio, counters, random states, worlds in mid-episode
        replay.pt     the records
        config.yaml   the run's configuration

    Whoever goes on from an earlier checkpoint has the later ones moved to `set_aside`.

    Args:
        folder: where checkpoints lie; made when missing.
        keep: how many of the newest stay, at least 1.

    Raises:
        CheckpointError: when the folder cannot be made.
        ValueError: when `keep` is below 1.
    """

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep_checkpoints must be at least 1, got {keep}.")
        self.folder = Path(folder)
        self.keep = keep
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"cannot make the checkpoint folder {self.folder}: {error.strerror}. "
                "Choose another with run_dir=PATH."
            ) from error

    def save(self, step: int, files: dict[str, Any], texts: dict[str, str] | None = None) -> Path:
        """Write a checkpoint; return its folder.

        Args:
            step: agent steps played; names the folder.
            files: file stem -> tensors and plain Python, for `torch.save`.
            texts: file name -> text, such as the configuration.

        Raises:
            CheckpointError: when it cannot be written (disk full, read-only); the checkpoints
                saved before are untouched and nothing half-written stays.
        """
        final = self.folder / f"step_{step:09d}"
        before = self.folder / f"{final.name}{OLD}"
        partial = self.folder / f".tmp-{os.getpid()}-{step}"
        # Here and not where the folder is opened: those who only read must not sweep away what
        # a running process is about to rename.
        self._sweep()
        try:
            partial.mkdir()
            for stem, content in files.items():
                torch.save(content, partial / f"{stem}.pt")
            for name, text in (texts or {}).items():
                (partial / name).write_text(text)
            manifest = {path.name: _facts(path) for path in sorted(partial.iterdir())}
            (partial / MANIFEST).write_text(json.dumps({"step": step, "files": manifest}, indent=1))
            for path in (*partial.iterdir(), partial):
                _force_to_disk(path)
            if final.exists():
                self._remove(before)
                os.replace(final, before)
            os.replace(partial, final)
            _force_to_disk(self.folder)
        except (OSError, RuntimeError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            if before.exists() and not final.exists():
                os.replace(before, final)
            raise CheckpointError(
                f"cannot save {final}: {error}. Free some space or choose another run_dir; "
                "the checkpoints saved before are untouched."
            ) from error
        self._remove(before)
        # What was just written stays, even beside damaged or abandoned ones of later steps.
        others = [path for path in self.all() if path != final]
        for old in others[self.keep - 1 :]:
            self._remove(old)
        return final

    def _remove(self, path: Path) -> None:
        """Remove a checkpoint; a kill half-way must not leave a damaged one by its name."""
        if path.exists():
            rubbish = self.folder / f".tmp-{os.getpid()}-{path.name}"
            os.replace(path, rubbish)
            shutil.rmtree(rubbish, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what a kill left half-written."""
        # tmp*: of what is written into a checkpoint later on, such as a model for others.
        for left_over in (*self.folder.glob(".tmp-*"), *self.folder.glob("step_*/tmp*")):
            shutil.rmtree(left_over, ignore_errors=True)

    def go_on_from(self, chosen: Path) -> list[Path]:
        """Make `chosen` the newest checkpoint: from now on this is where the run stands.

        Later ones, damaged or given up by whoever chose an earlier one, are moved into the folder
        `set_aside`, where nothing looks for them; what a kill left half-written goes. Only for
        the process that trains: it holds the run's lock.

        Args:
            chosen: one of `all()`.

        Returns:
            where the later ones lie now; they may be removed by hand.
        """
        self._sweep()
        moved = []
        for path in self.all():  # newest first: killed half-way, the rest is still in order
            if _age(path) <= _age(chosen):
                break
            target = self.folder / "set_aside" / path.name
            target.parent.mkdir(exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(path, target)
            moved.append(target)
        return moved

    def all(self) -> list[Path]:
        """Return all checkpoints by their final names, newest first, checked or not."""
        return sorted(self.folder.glob("step_*"), key=_age, reverse=True)

    def latest(self) -> Path | None:
        """Return the newest checkpoint that is whole; name each damaged one that is skipped."""
        for path in self.all():
            damage = verify(path)
            if damage is None:
                return path
            log.warning("skipping the damaged checkpoint %s: %s", path, damage)
        return None


def _age(path: Path) -> tuple[str, bool]:
    """Sorts checkpoints from old to new; of one step, the one saved last is the newest."""
    return path.name.removesuffix(OLD), path.suffix != OLD


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {
            "bytes": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


def _force_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def verify(path: Path, only: str | None = None) -> str | None:
    """Say what is wrong with a checkpoint folder, or None when every byte is as it was written.

    Args:
        path: a checkpoint folder.
        only: look at this file alone; None for all of them.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())["files"]
        if only is not None and only not in manifest:
            return f"{only} does not stand in {MANIFEST}"
        for name, facts in manifest.items():
            if only not in (None, name):
                continue
            if Path(name).name != name:
                return f"the manifest names a file outside the folder: {name!r}"
            if not (path / name).is_file():
                return f"{name} is missing"
            found = _facts(path / name)
            if found != facts:
                return (
                    f"{name} differs from what was written "
                    f"({found['bytes']} bytes found, {facts['bytes']} written)"
                )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__}: {error})"
    return None


def read(path: str | Path, stem: str, device: str | torch.device = "cpu") -> Any:
    """Load one file of a checkpoint, tensors and plain Python only: nothing in it can run.

    Args:
        path: a checkpoint folder.
        stem: "agent", "learning" or "replay".
        device: where the tensors go.

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
        return torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not what it should be
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{file} cannot be loaded: {reason}. Use another one.") from error


def find_run(where: str, runs_dir: str | Path) -> Path:
    """Find the checkpoint that `latest`, a run folder or a checkpoint folder means.

    Args:
        where: "latest" (newest whole checkpoint of the newest run), or a path.
        runs_dir: folder of the runs, for "latest".

    Raises:
        CheckpointError: when there is none.
    """
    if where == "latest":
        runs = sorted(
            Path(runs_dir).glob("*/checkpoints"), key=lambda p: p.stat().st_mtime, reverse=True
        )
    else:
        path = Path(where)
        if (path / MANIFEST).is_file() or path.name.startswith("step_"):
            damage = verify(path)
            if damage is not None:
                raise CheckpointError(f"the checkpoint {path} is damaged: {damage}.")
            return path
        runs = [path / "checkpoints"] if (path / "checkpoints").is_dir() else []
    for folder in runs:
        newest = Checkpoints(folder).latest()
        if newest is not None:
            return newest
        if where == "latest":
            log.warning("%s holds no whole checkpoint; looking at older runs", folder.parent)
    raise CheckpointError(
        f"no whole checkpoint found for {where!r} (runs are looked for in {Path(runs_dir)}). "
        "Train first, or give the path of a run folder or of a checkpoint folder."
    )
