"""Which agents can be looked at, and loading them when somebody does."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mario_dreamer.config.session import open_session, shipped_checkpoint, steps_of
from mario_dreamer.viewer.inspector import Mind
from mario_dreamer.viewer.recordings import Recordings

__all__ = ["Agents", "LoadedAgent"]

KEPT = 3  # agents in memory at once


@dataclass
class LoadedAgent:
    """An agent ready to be looked at.

    Args:
        id: its name in messages.
        name: for people.
        cfg: its configuration.
        mind: its head.
        checkpoint: where it came from; None: untrained.
    """

    id: str
    name: str
    cfg: DictConfig
    mind: Mind
    checkpoint: Path | None

    @property
    def rate(self) -> float:
        """Agent steps per second of the real game's clock."""
        return 60.0 / int(self.cfg.env.get("action_repeat", 1)) if "stage" in self.cfg.env else 4.0


def name_of(checkpoint: Path | None) -> str:
    """Name a checkpoint for people: run and agent steps."""
    if checkpoint is None:
        return "untrained, acts at random"
    if checkpoint == shipped_checkpoint():
        steps = steps_of(checkpoint)
        return "comes with the package" + (f", {steps:,} steps" if steps is not None else "")
    digits = checkpoint.name.removeprefix("step_")
    steps = f"{int(digits):,} steps" if digits.isdecimal() else checkpoint.name
    inside_a_run = checkpoint.parent.name == "checkpoints"
    run = checkpoint.parent.parent.name if inside_a_run else checkpoint.parent.name
    return f"{run}, {steps}" if run else steps


class Agents:
    """The agents on offer: the one asked for, one to compare, the runs of this machine, none.

    A page can only choose from this list, never a path of its own.

    Args:
        cfg: the command's configuration: checkpoint, compare, runs_dir, device, ...
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self._loaded: OrderedDict[str, LoadedAgent] = OrderedDict()
        self.places: dict[str, str] = {"main": str(cfg.checkpoint)}
        if cfg.get("compare"):
            self.places["second"] = str(cfg.compare)
        self.first = self.load("main")
        self.recordings = self._recordings()

    def listed(self) -> list[dict[str, str]]:
        """Return id and name of every agent on offer, the first one first."""
        runs = Path(str(self.cfg.runs_dir))
        shown = self.first.checkpoint
        for folder in sorted(runs.glob("*/checkpoints")):
            if any(folder.glob("step_*")) and (shown is None or shown.parent != folder):
                self.places.setdefault(f"run:{folder.parent.name}"[:64], str(folder.parent))
        shipped = shipped_checkpoint()
        if shipped is not None and shown != shipped:
            self.places.setdefault("shipped", "shipped")
        if shown is not None:
            self.places.setdefault("none", "none")
        return [{"id": id, "name": self._name(id, place)} for id, place in self.places.items()]

    def _recordings(self) -> Recordings:
        """Episodes that were asked for, and those that evaluations have left nearby."""
        asked, shown = self.cfg.get("recording"), self.first.checkpoint
        folders = [Path("evaluation")]
        if shown is not None and shown.parent.name == "checkpoints":
            folders.append(shown.resolve().parents[1] / "evaluation")
        return Recordings(None if asked is None else Path(str(asked)), folders)

    def _name(self, id: str, place: str) -> str:
        if id in self._loaded:
            return self._loaded[id].name
        if place in ("none", "shipped"):
            return name_of(None if place == "none" else shipped_checkpoint())
        return id.removeprefix("run:") if id.startswith("run:") else Path(place).name

    def load(self, id: str) -> LoadedAgent:
        """Return an agent of the list, from memory or from its checkpoint.

        Raises:
            ValueError: no such agent, or one that reads no pictures.
            CheckpointError: it is not there any more, or damaged.
        """
        if id not in self.places:
            raise ValueError(f"there is no agent {id!r}; expected one of {list(self.places)}.")
        if id not in self._loaded:
            changes: dict[str, Any] = {"checkpoint": self.places[id]}
            session = open_session(OmegaConf.merge(self.cfg, changes), num_envs=1)
            session.env.close()
            mind = Mind(session.policy, session.learner.critic)
            self._loaded[id] = LoadedAgent(
                id, name_of(session.checkpoint), session.cfg, mind, session.checkpoint
            )
        self._loaded.move_to_end(id)
        for old in list(self._loaded)[:-KEPT]:
            if old != "main":
                del self._loaded[old]
        return self._loaded[id]
