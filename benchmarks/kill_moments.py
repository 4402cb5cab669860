"""Moments at which a training process kills itself with SIGKILL; used by kills.py.

A moment wraps a function of the library inside the process that is to die. At its n-th call the
process is gone: no handler runs, no buffer is flushed, as with `kill -9` from outside.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mario_dreamer.replay import Replay
from mario_dreamer.tracking import append_only, video
from mario_dreamer.tracking.mlflow import run as mlflow_run
from mario_dreamer.tracking.mlflow.entries import WRITERS
from mario_dreamer.training import checkpoint, snapshot
from mario_dreamer.training.report import Report
from mario_dreamer.training.snapshot import Saved


def die() -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # the signal takes a moment to arrive


def die_after(seconds: float) -> None:
    """End this process in so many seconds, whatever it does then."""

    def _wait() -> None:
        time.sleep(seconds)
        die()

    threading.Thread(target=_wait, daemon=True).start()


def _before(owner: Any, name: str, when: Callable[..., bool], act: Callable[..., None]) -> None:
    """Call `act` before `owner.name` whenever its arguments satisfy `when`."""
    original = getattr(owner, name)

    def _wrapped(*args: Any, **options: Any) -> Any:
        if when(*args, **options):
            act(*args, **options)
        return original(*args, **options)

    setattr(owner, name, _wrapped)


def _always(*_: Any, **__: Any) -> bool:
    return True


class _Count:
    """Act at the n-th call only."""

    def __init__(self, number: int, act: Callable[..., None]) -> None:
        self.left, self.act = number, act

    def __call__(self, *args: Any, **options: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.act(*args, **options)


def _in_a_file_of_the_save(number: int, rng: random.Random) -> None:
    """A checkpoint file is half written."""
    share, save = rng.random(), checkpoint.save_tensors
    stem = rng.choice(("agent", "learning", "replay"))

    def _half(content: Any, path: Path) -> None:
        save(content, path)
        os.truncate(path, int(share * path.stat().st_size))
        die()

    _before(checkpoint, "save_tensors", lambda _, path: path.stem == stem, _Count(number, _half))


def _before_the_manifest(number: int, rng: random.Random) -> None:
    """All files are there, the manifest is not."""
    _before(checkpoint.json, "dumps", _is_manifest, _Count(number, _gone))


def _is_manifest(content: Any, **_: Any) -> bool:
    return isinstance(content, dict) and "files" in content


def _while_forcing_to_disk(number: int, rng: random.Random) -> None:
    """The files are written and not yet forced to disk."""
    _before(checkpoint, "_force_to_disk", _always, _Count(5 * number - rng.randrange(5), _gone))


def _replaces(source: str, target: str) -> Callable[..., bool]:
    def _is(old: Any, new: Any) -> bool:
        return Path(old).name.startswith(source) and Path(new).name.startswith(target)

    return _is


def _before_the_rename(number: int, rng: random.Random) -> None:
    """The checkpoint is complete and has no name yet."""
    _before(os, "replace", _replaces(".tmp-", "step_"), _Count(number, _gone))


def _between_rename_and_prune(number: int, rng: random.Random) -> None:
    """The checkpoint has its name; the old ones are still there."""
    rename = os.replace
    is_rename = _replaces(".tmp-", "step_")

    def _rename_and_die(old: Any, new: Any) -> None:
        rename(old, new)
        die()

    _before(os, "replace", is_rename, _Count(number, _rename_and_die))


def _in_the_prune(number: int, rng: random.Random) -> None:
    """An old checkpoint is half removed."""

    def _half(path: Any, *_: Any, **__: Any) -> None:
        inside = sorted(Path(path).iterdir())
        for file in inside[: rng.randint(0, len(inside))]:
            file.unlink()
        die()

    def _is_checkpoint(path: Any, **_: Any) -> bool:
        return Path(path).parent.name == "checkpoints" and Path(path).exists()

    _before(shutil, "rmtree", _is_checkpoint, _Count(number, _half))


def _in_a_line_of_metrics(number: int, rng: random.Random) -> None:
    """metrics.jsonl ends in half a line."""

    def _half(self: Any) -> None:
        text = "".join(self._waiting).encode()
        if self.path.suffix != ".jsonl" or not text:
            return
        with self.path.open("ab") as file:
            file.write(text[: rng.randint(0, len(text) - 1)])
        die()

    _before(append_only.AppendOnly, "flush", _always, _Count(number, _half))


def _before_writing(kind: str, action: Callable[..., Any]) -> None:
    """Do something before entries of a kind are written to MLflow."""
    write = WRITERS[kind]

    def _first(*args: Any) -> None:
        action(*args)
        write(*args)

    WRITERS[kind] = _first


def _in_the_tracking_write(number: int, rng: random.Random) -> None:
    """MLflow's thread is writing metrics, sqlite in a transaction or just behind it."""
    wait = rng.uniform(0, 0.05)
    _before_writing("metrics", _Count(number, lambda *_: die_after(wait)))


def _behind_the_tracking_write(number: int, rng: random.Random) -> None:
    """MLflow has the metrics, the outbox does not know yet."""
    write = WRITERS["metrics"]

    def _write_and_die(*args: Any) -> None:
        write(*args)
        die()

    _before_writing("metrics", _Count(number, _write_and_die))


def _in_a_picture(number: int, rng: random.Random) -> None:
    """MLflow is taking in a picture."""
    wait = rng.uniform(0, 0.03)
    _before_writing("image", _Count(1, lambda *_: die_after(wait)))


def _in_a_film(number: int, rng: random.Random) -> None:
    """A film is half encoded."""
    wait = rng.uniform(0, 0.02)
    _before(video, "atomic_file", _always, _Count(number, lambda *_: die_after(wait)))


def _behind_an_evaluation(number: int, rng: random.Random) -> None:
    """An evaluation is logged, and nothing has been saved since."""
    evaluate, wait = Report.evaluate, rng.uniform(0, 1)

    def _evaluate_and_die(*args: Any) -> None:
        evaluate(*args)
        time.sleep(wait)  # MLflow has all of it, or some, or nothing
        die()

    _before(Report, "evaluate", _always, _Count(number, _evaluate_and_die))


def _in_the_restore(number: int, rng: random.Random) -> None:
    """A resumed run is being put back together."""
    wait = rng.uniform(0, 0.1)
    _before(Saved, "restore", _always, lambda *_: die_after(wait))


def _before_the_first_step(number: int, rng: random.Random) -> None:
    """A resumed run has put aside what it does not go on from, and has not played yet."""
    # The first call finds out whether the checkpoint fits.
    _before(snapshot, "restore_random_states", _always, _Count(2, _gone))


def _in_an_update(number: int, rng: random.Random) -> None:
    """The learner is at work, with updates of this turn still to make."""
    _before(Replay, "sample", _always, _Count(number * 3, _gone))


def _while_setting_aside(number: int, rng: random.Random) -> None:
    """A damaged later checkpoint is being moved out of the way."""
    _before(os, "replace", _replaces("step_", "step_"), _gone)


def _before_the_run_id(number: int, rng: random.Random) -> None:
    """MLflow has a new run, and nobody has written down which."""

    def _is_id(path: Path, *_: Any) -> bool:
        return Path(path).name == "mlflow_run_id.txt"

    _before(mlflow_run, "write_text", _is_id, _gone)


def _at_the_end(number: int, rng: random.Random) -> None:
    """All is learned and saved; MLflow has not been told that it is over."""
    _before_writing("status", _gone)


def _gone(*_: Any, **__: Any) -> None:
    die()


# name -> installs it in this process; `number`: at which of its calls the process dies.
MOMENTS: dict[str, Callable[[int, random.Random], None]] = {
    "in a file of the save": _in_a_file_of_the_save,
    "before the manifest": _before_the_manifest,
    "while forcing to disk": _while_forcing_to_disk,
    "before the rename": _before_the_rename,
    "between rename and prune": _between_rename_and_prune,
    "in the prune": _in_the_prune,
    "in a line of metrics": _in_a_line_of_metrics,
    "in the tracking write": _in_the_tracking_write,
    "behind the tracking write": _behind_the_tracking_write,
    "in a picture": _in_a_picture,
    "in a film": _in_a_film,
    "behind an evaluation": _behind_an_evaluation,
    "in the restore": _in_the_restore,
    "before the first step": _before_the_first_step,
    "in an update": _in_an_update,
    "while setting aside": _while_setting_aside,
    "before the run id is written": _before_the_run_id,
    "at the end": _at_the_end,
}
