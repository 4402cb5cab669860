"""The agents that a page can choose from, loaded when one is chosen."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mario_dreamer.config.load_agent import LoadedAgent
from mario_dreamer.training.checkpoint_files import run_of, shipped_checkpoint, steps_of
from mario_dreamer.viewer.inspector import AgentInspector
from mario_dreamer.viewer.recordings import Recordings

KEPT = 3  # agents in memory at once


@dataclass
class ViewedAgent:
    """An agent in memory.

    Args:
        loaded: networks, options and maker of its envs.
        inspector: steps and reads its state.
    """

    id: str
    name: str
    loaded: LoadedAgent
    inspector: AgentInspector

    @property
    def rate(self) -> float:
        """Agent steps per second of the real game's clock."""
        return 60.0 / self.loaded.action_repeat if "stage" in self.loaded.env_options else 4.0


def name_of(checkpoint: Path | None) -> str:
    """Name a checkpoint for people: run and agent steps."""
    if checkpoint is None:
        return "untrained, random actions"
    if checkpoint == shipped_checkpoint():
        steps = steps_of(checkpoint)
        return "shipped with the package" + (f", {steps:,} steps" if steps is not None else "")
    digits = checkpoint.name.removeprefix("step_")
    steps = f"{int(digits):,} steps" if digits.isdecimal() else checkpoint.name
    run = (run_of(checkpoint) or checkpoint.parent).name
    return f"{run}, {steps}" if run else steps


class Agents:
    """The agents on offer: the one asked for, one to compare, the runs of this machine, none.

    A page can only choose from this list, never a path of its own.

    Args:
        open_agent: builds the agent of a place as `checkpoint=` takes it.
        checkpoint: place of the first agent; it is loaded at once.
        compare: place of a second one, loaded at once too; None: none was asked for.
        recording: a recorded episode, or a folder of them; None: those of evaluations nearby.
        seed: of the first episode.

    Raises:
        ValueError, CheckpointError: an agent or a recording that was asked for cannot be loaded.
    """

    def __init__(
        self,
        open_agent: Callable[[str], LoadedAgent],
        checkpoint: str,
        compare: str | None = None,
        runs_dir: Path = Path("runs"),
        recording: Path | None = None,
        seed: int = 0,
    ) -> None:
        self.open_agent, self.runs_dir, self.seed = open_agent, runs_dir, seed
        self._loaded: OrderedDict[str, ViewedAgent] = OrderedDict()
        self.places = {"main": checkpoint} | ({"second": compare} if compare else {})
        self.first = self.load("main")
        if compare:
            self.load("second")
        folders, shown = [Path("evaluation")], self.first.loaded.checkpoint
        if run := run_of(shown):
            folders.append(run.resolve() / "evaluation")
        self.recordings = Recordings(recording, folders)

    def listed(self) -> list[dict[str, str]]:
        """Return id and name of every agent on offer, the first one first."""
        asked = [self._loaded[id] for id in ("main", "second") if id in self._loaded]
        shown = [agent.loaded.checkpoint for agent in asked]
        runs = [run.resolve() for run in map(run_of, shown) if run]
        for folder in sorted(self.runs_dir.glob("*/checkpoints")):
            if any(folder.glob("step_*")) and folder.parent.resolve() not in runs:
                self.places.setdefault(f"run:{folder.parent.name}"[:64], str(folder.parent))
        shipped = shipped_checkpoint()
        if shipped is not None and shipped not in shown:
            self.places.setdefault("shipped", "shipped")
        if None not in shown:
            self.places.setdefault("none", "none")
        return [{"id": id, "name": self.name(id)} for id in self.places]

    def name(self, id: str) -> str:
        """Name an agent of the list for people."""
        place = self.places[id]
        if id in self._loaded:
            return self._loaded[id].name
        if place in ("none", "shipped"):
            return name_of(None if place == "none" else shipped_checkpoint())
        return Path(place).name

    def load(self, id: str) -> ViewedAgent:
        """Return an agent of the list, from memory or from its checkpoint.

        Raises:
            ValueError: no such agent, or one that observes no pixels.
            CheckpointError: it is not there any more, or damaged.
        """
        if id not in self.places:
            raise ValueError(f"there is no agent {id!r}; expected one of {list(self.places)}.")
        if id not in self._loaded:
            loaded = self.open_agent(self.places[id])
            inspector = AgentInspector(loaded.policy, loaded.critic)
            self._loaded[id] = ViewedAgent(id, name_of(loaded.checkpoint), loaded, inspector)
        self._loaded.move_to_end(id)
        for old in list(self._loaded)[:-KEPT]:
            if old != "main":
                del self._loaded[old]
        return self._loaded[id]
