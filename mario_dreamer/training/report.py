"""What a run tells while it goes on: metrics, episodes, evaluations, pictures."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch
from tensordict import TensorDictBase

from mario_dreamer.tracking.metrics import full_names
from mario_dreamer.tracking.values import numbers
from mario_dreamer.training.evaluation import episode_ends

__all__ = ["Listener", "Report"]

GIB = 2**30
# An episode's facts -> the metric table's names.
TOLD = {
    "return": "return", "length": "length", "x_max": "x_max", "flag": "flag", "score": "score",
    "coins": "coins", "time": "time_left",
}  # fmt: skip


def episode_metrics(facts: dict[str, float], group: str = "play") -> dict[str, float]:
    """Give an episode's facts the names of the metric table; others are left out."""
    return {f"{group}/{told}": facts[name] for name, told in TOLD.items() if name in facts}


class Listener(Protocol):
    """What a tracker and a progress display have in common, as far as the loop goes."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Take in metrics by name at an agent step."""

    def log_artifact(self, path: Path, folder: str) -> None:
        """Keep a file."""

    def flush(self) -> None:
        """Let what has been told outlive a kill."""

    def close(self, status: str) -> None:
        """The run is over: FINISHED, FAILED or KILLED."""


class Report:
    """Gather what happens, and tell it from time to time.

    Args:
        tracker: takes scalars.
        progress: a `tracking.progress.Progress`; None for silence.
        evaluate: called with the agent steps; returns metrics to log. None: no evaluation.
        action_repeat: frames per agent step.
        replay_size: called for the number of records at hand.
        window: how many past episodes the running means look at.

    Attributes:
        model_beside: called with each checkpoint's folder and the agent steps; writes a model
            that others can play with and returns its folder, which the tracker keeps.
    """

    def __init__(
        self,
        tracker: Listener,
        progress: Any = None,
        evaluate: Callable[[int], dict[str, float]] | None = None,
        action_repeat: int = 4,
        replay_size: Callable[[], int] = int,
        window: int = 20,
    ) -> None:
        self.tracker, self.progress = tracker, progress
        self.model_beside: Callable[[Path, int], Path | None] | None = None
        self._evaluate = evaluate
        self.action_repeat = action_repeat
        self.replay_size = replay_size
        self.updates = 0
        self.episodes = 0
        self.flags = 0
        self.best_x = 0.0
        self.last: dict[str, float] = {}
        self.recent: deque[dict[str, float]] = deque(maxlen=window)
        self._metrics: dict[str, torch.Tensor] = {}
        self._since = (time.monotonic(), 0, 0)
        self._learn_time = 0.0
        self._mark = time.monotonic()

    def played(self, transitions: TensorDictBase, agent_steps: int) -> None:
        """Note the episodes that ended in these transitions, [N, n]."""
        if self._since[1] == 0:
            self._since = (time.monotonic(), agent_steps - transitions.numel(), self.updates)
        for facts in episode_ends(transitions):
            self.episodes += 1
            self.flags += int(facts.get("flag", 0))
            self.best_x = max(self.best_x, facts.get("x_max", 0.0))
            self.recent.append(facts)
            told = episode_metrics(facts)
            self.tracker.log_metrics({**told, "train_return": facts["return"]}, agent_steps)
            if self.progress is not None:
                self.progress.episode(told)
        if self.progress is not None:
            self.progress.tick(agent_steps)
        self._mark = time.monotonic()

    def learned(self, metrics: TensorDictBase, agent_steps: int) -> None:
        """Keep the metrics of an update, as tensors: they are fetched when they are told."""
        self.updates += 1
        self._metrics = metrics
        now = time.monotonic()
        self._learn_time += now - self._mark
        self._mark = now
        if self.progress is not None:
            self.progress.tick(agent_steps)

    @property
    def flag_rate(self) -> float:
        """Share of the recent episodes that reached the flag; 0 before any has ended."""
        flags = [past.get("flag", 0.0) for past in self.recent]
        return sum(flags) / len(flags) if flags else 0.0

    def facts(self, agent_steps: int) -> dict[str, float]:
        """Return where the run stands: counters, speed, recent episodes; no device is asked."""
        seconds = max(time.monotonic() - self._since[0], 1e-9)
        facts = {
            "run/agent_steps": agent_steps,
            "run/frames": agent_steps * self.action_repeat,
            "run/updates": self.updates,
            "run/episodes": self.episodes,
            "run/replay_size": self.replay_size(),
            "speed/fps": (agent_steps - self._since[1]) * self.action_repeat / seconds,
            "speed/agent_steps_per_s": (agent_steps - self._since[1]) / seconds,
            "speed/updates_per_s": (self.updates - self._since[2]) / seconds,
            "speed/learn_time": min(1.0, self._learn_time / seconds),
            "speed/env_time": max(0.0, 1.0 - self._learn_time / seconds),
        }
        for name in ("return", "length", "x_max"):
            values = [past[name] for past in self.recent if name in past]
            if values:
                facts[f"play/{name}_mean"] = sum(values) / len(values)
        flags = [past["flag"] for past in self.recent if "flag" in past]
        if flags:
            facts["play/flag_rate"] = sum(flags) / len(flags)
            facts["play/flags"] = self.flags
            facts["play/x_best"] = self.best_x
        return facts

    def log(self, agent_steps: int) -> dict[str, float]:
        """Tell the trackers and the display all that is known now; return it."""
        facts = self.facts(agent_steps)
        facts["run/memory_gib"] = psutil.Process().memory_info().rss / GIB
        facts.update(numbers(full_names(self._metrics)))  # one wait for the device
        self.tracker.log_metrics(facts, agent_steps)
        if self.progress is not None:
            self.progress.update(facts)
        self._since = (time.monotonic(), agent_steps, self.updates)
        self._learn_time = 0.0
        self.last = facts
        return facts

    def evaluate(self, agent_steps: int) -> None:
        """Play evaluation episodes and tell how they went."""
        if self._evaluate is None:
            return
        metrics = self._evaluate(agent_steps)
        self.tracker.log_metrics(metrics, agent_steps)
        if self.progress is not None:
            self.progress.update(metrics)

    def flush(self) -> None:
        """Before a checkpoint: what it counts as told must not be lost any more."""
        self.tracker.flush()

    def saved(self, path: Path, agent_steps: int) -> None:
        """Say that a checkpoint has been written; the tracker keeps the newest weights."""
        for name in ("agent.pt", "config.yaml", "manifest.json"):
            self.tracker.log_artifact(path / name, "checkpoints/latest")
        model = None if self.model_beside is None else self.model_beside(path, agent_steps)
        if model is not None:
            self.tracker.log_artifact(model, "model")
        if self.progress is not None:
            self.progress.note(f"saved {path} at agent step {agent_steps:,}")

    def close(self) -> None:
        """Leave the screen in order."""
        if self.progress is not None:
            self.progress.close()

    def state_dict(self) -> dict[str, Any]:
        """Counters that a resume goes on with."""
        return {
            "updates": self.updates,
            "episodes": self.episodes,
            "flags": self.flags,
            "best_x": self.best_x,
            "recent": list(self.recent),
            "metrics": {name: value.cpu() for name, value in self._metrics.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self.updates, self.episodes = state["updates"], state["episodes"]
        self.flags, self.best_x = state["flags"], state["best_x"]
        self.recent.extend(state["recent"])
        self._metrics = dict(state.get("metrics", {}))
        if self.progress is not None and self.episodes:
            self.progress.facts.episodes, self.progress.facts.flags = self.episodes, self.flags
            self.progress.facts.best_x = self.best_x or None
