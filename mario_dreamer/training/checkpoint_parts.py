"""One checkpoint of several processes: each writes its part, one of them signs the whole."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mario_dreamer.replay import Replay
from mario_dreamer.replay.redistribution import redistribute
from mario_dreamer.tracking.atomic_file import atomic_file
from mario_dreamer.training.checkpoint import Checkpoints, save_tensors
from mario_dreamer.training.checkpoint_files import CheckpointError, read
from mario_dreamer.training.distributed import Processes
from mario_dreamer.training.liveness import SIGNS

_PATIENCE = 20.0  # seconds that processes wait for each other after a connection broke


def save_parts(
    processes: Processes,
    checkpoints: Checkpoints,
    step: int,
    files: dict[str, Any],
    own: dict[str, Any],
    texts: dict[str, str],
) -> Path:
    """Write a checkpoint of all processes; return its folder. Every process calls this.

    After a connection broke those that are left do what they can: the lowest of them signs.

    Args:
        processes: of this training; they see one folder.
        files: "agent", "learning" and "replay" as the signing process has them.
        own: "replay", "random" and "envs" of this process.

    Raises:
        CheckpointError: a disk refuses; in every process.
    """
    signing = processes.survivors()[0]
    problem, path = None, None
    own_file = _part(checkpoints, step, processes.rank)
    if processes.rank != signing:
        try:
            with atomic_file(own_file) as draft:
                save_tensors(own, draft)
        except (OSError, RuntimeError) as error:
            problem = f"cannot save {own_file}: {error}"
    if not processes.disconnected:
        problem = next(filter(None, processes.exchange(problem)), None)
    if processes.rank == signing and problem is None:
        try:
            path = checkpoints.save(step, files, texts, _parts(processes, checkpoints, step))
        except CheckpointError as error:
            problem = str(error)
        for pattern in (".*part-*", SIGNS):
            for left in checkpoints.folder.glob(pattern):
                left.unlink(missing_ok=True)
    if not processes.disconnected:
        path, problem = processes.exchange((path, problem))[signing]
    elif processes.rank != signing:
        path = checkpoints.folder / f"step_{step:09d}"
        _wait(lambda: not own_file.exists())
    if problem is not None:
        raise CheckpointError(problem)
    return path


def _part(checkpoints: Checkpoints, step: int, rank: int) -> Path:
    return checkpoints.folder / f".part-{step:09d}-{rank:03d}.pt"


def _parts(processes: Processes, checkpoints: Checkpoints, step: int) -> dict[str, Path]:
    """File name -> part of every other process that is left."""
    others = {rank: _part(checkpoints, step, rank) for rank in processes.survivors()[1:]}
    if processes.disconnected:
        _wait(lambda: all(path.exists() for path in others.values()))
        others = {rank: path for rank, path in others.items() if path.exists()}
    return {f"process_{rank:03d}.pt": path for rank, path in others.items()}


def _wait(ready: Any) -> None:
    end = time.monotonic() + _PATIENCE
    while not ready() and time.monotonic() < end:
        time.sleep(0.05)


def own_part(path: Path, learning: dict[str, Any], processes: Processes) -> dict[str, Any] | None:
    """Return the part that this process left in a checkpoint; None when it has to be redistributed.

    Args:
        learning: its `learning.pt`.

    Returns:
        "replay", "random", "envs"; None where the checkpoint is of another number of processes,
        or lacks the part of one that was lost.
    """
    count = int(learning.get("processes", 1))
    if count != processes.size or len(list(path.glob("process_*.pt"))) != count - 1:
        return None
    own = learning if processes.first else read(path, f"process_{processes.rank:03d}")
    return {
        "replay": read(path, "replay") if processes.first else own["replay"],
        "random": own["random"],
        "envs": own.get("envs", own.get("worlds")),  # "worlds" until 2026-11-26
    }


def redistribute_replay(
    path: Path,
    learning: dict[str, Any],
    processes: Processes,
    replay: Replay,
    own: dict[str, Any] | None,
) -> str:
    """Fill `replay` with this process's share of a checkpoint's records; describe it in one line.

    Args:
        own: what `own_part` returned, so that its replay is not read again; no part lacks then.
    """
    stems = ["replay", *sorted(part.stem for part in path.glob("process_*.pt"))]
    files = (
        own if own is not None and rank == processes.rank else read(path, stem)
        for rank, stem in enumerate(stems)
    )  # one in memory at a time
    states = (state.get("replay", state) for state in files)  # a process_*.pt holds more than it
    redistribute(states, len(stems), replay, processes.rank, processes.size)
    found = sum(processes.exchange(len(replay)))
    kept = f"{found:,} records, each process keeps its newest {replay.streams.capacity:,}"
    processes_then = learning.get("processes", 1)
    if len(stems) == processes_then == processes.size:
        return (
            "replay.capacity, collector.num_envs or batch_length has changed: replay is redistributed "
            f"({kept}), and episodes begin again"
        )
    return (
        f"the checkpoint holds {len(stems)} of {processes_then} processes and this run has "
        f"{processes.size}: replay is redistributed ({kept}), episodes begin again, random numbers "
        "are new, and an update learns from another number of batches"
    )
