"""What a checkpoint holds, and how a run is put back together from it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from torchrl.checkpoint import GlobalRNGState

from mario_dreamer.tracking.tracker import NoTracker
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import CheckpointError, read, run_of
from mario_dreamer.training.checkpoint_parts import own_part, redistribute_replay, save_parts
from mario_dreamer.training.core import Core
from mario_dreamer.training.distributed import Processes, ProcessLost
from mario_dreamer.training.env_state import env_state, restore_env_state
from mario_dreamer.training.report import Report


@dataclass(frozen=True)
class Saved:
    """A checkpoint of a run, read and found whole; restoring it changes no file.

    Args:
        learning: counters, optimizer, random states, envs in mid-episode.
        processes: those that go on from it together.
    """

    path: Path
    learning: dict[str, Any]
    run_id: str | None
    agent_steps: int
    processes: Processes

    @classmethod
    def read(cls, path: Path, processes: Processes | None = None) -> Self:
        """Read a checkpoint folder.

        Args:
            processes: those that go on from it together; None: this one alone.

        Raises:
            CheckpointError: when it is damaged, or does not hold how far the run had come.
        """
        learning = read(path, "learning")
        found = learning if isinstance(learning, dict) else {}
        run_id, steps = found.get("run_id"), found.get("agent_steps")
        if not isinstance(run_id, str | None) or type(steps) is not int:
            raise CheckpointError(
                f"{path}/learning.pt does not hold how far the run had come; got "
                f"agent_steps={steps!r}, run_id={run_id!r}. Use another checkpoint."
            )
        return cls(path, found, run_id, steps, processes or Processes())

    @functools.cached_property
    def own(self) -> dict[str, Any] | None:
        """Replay, envs and random states of this process; None of another number of processes."""
        return own_part(self.path, self.learning, self.processes)

    def restore(self, core: Core, env_options: str = "") -> None:
        """Put the state into freshly built parts.

        Where the envs cannot be put back into mid-episode, one line says so; an episode cut
        by the interruption is then closed in replay as not terminal, because the next record
        opens an episode.

        Args:
            core: built from the checkpoint's configuration.
            env_options: of the envs now; others than saved open new episodes.

        Raises:
            CheckpointError: when the checkpoint is damaged or belongs to an agent of other sizes.
        """
        learning = self.learning
        with _saying_which(self.path):
            core.learner.load_state_dict(learning | {"modules": read(self.path, "agent")})
            if self.own is None or not core.replay.fits(self.own["replay"]):
                own, processes = self.own, self.processes
                again = redistribute_replay(self.path, learning, processes, core.replay, own)
            else:
                core.replay.load_state_dict(self.own["replay"])
                again = restore_env_state(self.own["envs"], core.env, core.collector, env_options)
                again = again and f"episodes begin again, because {again}"
            core.ratio.load_state_dict(learning["ratio"])
            loop = learning.get("loop", learning.get("turn"))  # its older name
            if loop is not None:  # the oldest only have their number of updates
                core.state.load_state_dict(loop)
            self.restore_report(Report(NoTracker()))  # to find out now whether it can be
        _check_finite(core.learner.modules, self.path)
        if again:
            print(f"resume: {again}")

    def restore_report(self, report: Report) -> None:
        """Restore a report, and the global random generators: last, so nothing draws in between."""
        own = self.path if run_of(self.path) else None  # a copy elsewhere is not the run's
        report.load_state_dict(self.learning["report"], (self.agent_steps, own))
        if self.own is not None:
            restore_random_states(self.own["random"])


@dataclass(frozen=True)
class Snapshot:
    """Save a whole run: weights, optimiser, counters, random states, replay, envs.

    On CPU a restored run goes on bit for bit as the saved one would have, in mid-episode. Envs
    that cannot be saved in mid-episode say so in the checkpoint; their episodes begin again.

    Args:
        report: its counters are saved.
        config: the resolved configuration as YAML, stored with it.
        run_id: the tracker's run, to go on with the same one.
        env_options: of the envs; with other ones, a resume opens new episodes.
    """

    checkpoints: Checkpoints
    report: Report
    config: str = ""
    run_id: str | None = None
    env_options: str = ""

    def save(self, core: Core, agent_steps: int) -> Path:
        """Write a checkpoint; return its folder.

        Raises:
            CheckpointError: when the disk refuses.
        """
        learner = core.learner.state_dict()
        own = {
            "replay": core.replay.state_dict(),
            "random": GlobalRNGState().state_dict(),
            "envs": env_state(core.env, core.collector, self.env_options),
        }
        learning = {
            "agent_steps": agent_steps,
            "updates": learner["updates"],
            "optimizer": learner["optimizer"],
            "ratio": core.ratio.state_dict(),
            "random": own["random"],
            "report": self.report.state_dict(),
            "loop": core.state.state_dict(),
            "envs": own["envs"],
            "run_id": self.run_id,
            "processes": core.processes.size,
        }
        files = {"agent": learner["modules"], "learning": learning, "replay": own["replay"]}
        texts = {"config.yaml": self.config}
        return save_parts(core.processes, self.checkpoints, agent_steps, files, own, texts)


def _check_finite(modules: torch.nn.Module, path: Path) -> None:
    """Raise CheckpointError when a weight is not a number: nothing good comes of it."""
    state = modules.state_dict()
    bad = [name for name, value in state.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise CheckpointError(
            f"the checkpoint {path} holds weights that are not finite: {bad[:3]}. Use another one."
        )


def load_weights(modules: nn.ModuleDict, path: Path, averaged: bool = True) -> None:
    """Put a checkpoint's weights into freshly built networks, for playing and looking.

    Args:
        modules: some of `world_model`, `actor`, `critic`, of the sizes of the checkpoint.
        averaged: take the average of the last updates where the checkpoint holds one.

    Raises:
        CheckpointError: when it is damaged or belongs to an agent of other sizes.
    """
    with _saying_which(path):
        saved = dict(read(path, "agent"))
        if averaged:
            name = "average."
            saved |= {k.removeprefix(name): v for k, v in saved.items() if k.startswith(name)}
        wanted = tuple(f"{part}." for part in modules)
        modules.load_state_dict({k: v for k, v in saved.items() if k.startswith(wanted)})
    _check_finite(modules, path)


@contextlib.contextmanager
def _saying_which(path: Path) -> Iterator[None]:
    """Turn what a checkpoint of another make raises, which may be anything, into one line."""
    try:
        yield
    except (CheckpointError, ProcessLost):
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(
            f"the checkpoint {path} does not fit this agent ({' '.join(lines[:2])[:300]}). "
            "Use the configuration it was made with, its config.yaml."
        ) from error


def restore_random_states(states: dict[str, Any]) -> None:
    """Put back the random states of a checkpoint, as `GlobalRNGState` returns them.

    Those of a GPU are left out where there is none. Until 2026-11-28 checkpoints held other names,
    and lists for tuples.
    """
    names = {"torch": "torch_cpu", "cuda": "torch_cuda", "mps": "torch_mps"}
    states = {names.get(name, name): state for name, state in states.items()}
    version, words, gauss = states["python"]
    states["python"] = version, tuple(words), gauss
    if not torch.cuda.is_available():
        states.pop("torch_cuda", None)
    if not torch.backends.mps.is_available():
        states.pop("torch_mps", None)
    GlobalRNGState().load_state_dict(states)
