"""Write checkpoints: all that a resume needs, complete on disk or not there at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from mario_dreamer.training.checkpoint_files import (
    BEST,
    MANIFEST,
    OLD,
    CheckpointError,
    age,
    file_info,
    list_checkpoints,
    newest_whole,
    steps_of,
)


class Checkpoints:
    """Save a run so that a kill at any moment loses nothing that was saved before.

    A checkpoint is a folder `step_<agent steps>` of files made by `torch.save`. It is written
    under a temporary name, forced to disk, described by a manifest of sizes and SHA-256 sums,
    and only then renamed: a folder with its final name is complete. A step that is saved once
    more keeps its first folder as `step_<agent steps>.old` until the second one is there.

        agent.pt      weights of world model, actor, critic, slow critic, return statistics
        learning.pt   optimiser, update ratio, counters, random states, envs in mid-episode
        replay.pt     the records
        config.yaml   the run's configuration
        process_001.pt   of several processes: replay, random states and envs of each but the first

    `best` is a copy of the checkpoint with the best evaluation so far, without its replay. Folders
    by any other name are not touched. A resume from an earlier checkpoint moves the later ones
    to `set_aside`.

    Args:
        folder: where checkpoints lie; made when missing.
        keep: how many of the newest stay, at least 1.

    Raises:
        CheckpointError: when the folder cannot be made.
    """

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        self.folder = Path(folder)
        self.keep = keep
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"cannot make the checkpoint folder {self.folder}: {error.strerror}. "
                "Choose another with runs_dir=PATH."
            ) from error

    def save(
        self,
        step: int,
        files: dict[str, Any],
        texts: dict[str, str] | None = None,
        parts: dict[str, Path] | None = None,
    ) -> Path:
        """Write a checkpoint; return its folder.

        Args:
            step: agent steps played; names the folder.
            files: file stem -> tensors and plain Python, for `torch.save`.
            texts: file name -> text, such as the configuration.
            parts: file name -> file in the same folder, of another process; it is moved.

        Raises:
            CheckpointError: when it cannot be written (disk full, read-only); the checkpoints
                saved before are untouched and nothing half-written stays.
        """
        final = self.folder / f"step_{step:09d}"
        with self._writing(final, step, texts or {}) as partial:
            for stem, content in files.items():
                save_tensors(content, partial / f"{stem}.pt")
            for name, source in (parts or {}).items():
                os.replace(source, partial / name)
        # What was just written stays, even next to damaged or abandoned ones of later steps.
        others = [path for path in self.all() if path != final and not path.is_symlink()]
        for old in others[self.keep - 1 :]:
            self._remove(old)
        return final

    def save_best(self, step: int, source: Path, texts: dict[str, str]) -> Path:
        """Make `best` a copy of a checkpoint, without its replay; else as `save`.

        Args:
            texts: file name -> text to lie with it, such as the metric it was chosen by.
        """
        final = self.folder / BEST
        with self._writing(final, step, texts) as partial:
            for name in ("agent.pt", "config.yaml"):
                try:
                    os.link(source / name, partial / name)  # a checkpoint is never written to again
                except OSError:  # a file system without hard links
                    shutil.copy2(source / name, partial / name)
        return final

    @contextlib.contextmanager
    def _writing(self, final: Path, step: int, texts: dict[str, str]) -> Iterator[Path]:
        """Let a folder be filled under a temporary name; sign it, and put it in place of `final`."""
        before = final.with_suffix(OLD)
        partial = self.folder / f".tmp-{os.getpid()}-{final.name}"
        # Here and not where the folder is opened: those who only read must not sweep away what
        # a running process is about to rename.
        self._sweep()
        try:
            partial.mkdir(parents=True)
            yield partial
            for name, text in texts.items():
                (partial / name).write_text(text, "utf-8")
            manifest = {path.name: file_info(path) for path in sorted(partial.iterdir())}
            text = json.dumps({"step": step, "files": manifest}, indent=1)
            (partial / MANIFEST).write_text(text, "utf-8")
            for path in (*partial.iterdir(), partial):
                _force_to_disk(path)
            if os.path.lexists(final):
                self._remove(before)
                os.replace(final, before)
            os.replace(partial, final)
            _force_to_disk(self.folder)
        except (OSError, RuntimeError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            if os.path.lexists(before) and not os.path.lexists(final):
                os.replace(before, final)
            raise CheckpointError(
                f"cannot save {final}: {error}. Free some space or choose another runs_dir; "
                "the checkpoints saved before are untouched."
            ) from error
        self._remove(before)

    def _remove(self, path: Path) -> None:
        """Remove a checkpoint; a kill half-way must not leave a damaged one by its name."""
        if os.path.lexists(path):
            doomed = self.folder / f".tmp-{os.getpid()}-gone-{path.name}"
            os.replace(path, doomed)
            _delete(doomed)

    def _sweep(self) -> None:
        """Remove what a kill left half-written; put back the best one, if it was being replaced."""
        replaced = self.folder / (BEST + OLD)
        if replaced.is_dir() and not os.path.lexists(self.folder / BEST):
            os.replace(replaced, self.folder / BEST)
        # tmp*: of what is written into a checkpoint later on, such as a model for others.
        inside = (left for path in self.all() for left in path.glob("tmp*"))
        for left_over in (*self.folder.glob(".tmp-*"), *inside):
            _delete(left_over)

    def go_on_from(self, chosen: Path) -> list[Path]:
        """Make `chosen`, a checkpoint of this run, the newest: this is where the run stands.

        Later ones, damaged or given up for an earlier one, are moved into the folder `set_aside`,
        where nothing looks for them and from where they may be removed by hand; their new paths
        are returned. Only for the process that trains: it holds the run's lock.
        """
        self._sweep()
        # Newest first: killed half-way, the rest is still in order.
        here = (steps_of(chosen) or 0, chosen.suffix != OLD)  # it may be a copy by another name
        given_up = [path for path in self.all() if age(path) > here]
        if (steps_of(self.folder / BEST) or 0) > here[0]:
            given_up.append(self.folder / BEST)
        moved = []
        for path in given_up:
            target = self.folder / "set_aside" / path.name
            target.parent.mkdir(exist_ok=True)
            _delete(target)
            os.replace(path, target)
            moved.append(target)
        return moved

    def all(self) -> list[Path]:
        """Return all checkpoints by their final names, newest first, checked or not."""
        return list_checkpoints(self.folder)

    def latest(self) -> Path | None:
        """Return the newest one that is whole; see `newest_whole`."""
        return newest_whole(self.folder)


class _Sink:
    """A file for torch to write to that never raises: C++ would end the process on it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write, or keep the error."""
        if self.error is None:
            try:
                self.file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Nothing: the file is flushed when it is closed."""


def save_tensors(content: Any, path: Path) -> None:
    """Write what `torch.save` writes, so that a full disk is an OSError.

    `torch.save` to a path, or to a file that raises, may end the process (`std::terminate`).

    Raises:
        OSError: the disk refuses.
    """
    with path.open("wb") as file:
        sink = _Sink(file)
        torch.save(content, sink)
        if sink.error is not None:
            raise sink.error


def _delete(path: Path) -> None:
    """Delete a folder, a file or a link, as far as that goes."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _force_to_disk(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows forces no folders to disk
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
