"""Gather metrics and episodes of a run, and log them from time to time."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from mario_dreamer.keys import STATS
from mario_dreamer.tracking.clock import work_seconds
from mario_dreamer.tracking.metrics import full_names, with_seed_names
from mario_dreamer.tracking.progress import NoProgress, Progress
from mario_dreamer.tracking.tracker import Tracker
from mario_dreamer.tracking.values import numbers
from mario_dreamer.training.best import keep_best

GIB = 2**30
# Statistics of one episode, or of those of an evaluation -> the metric table's names.
EPISODE_NAMES = {
    "return": "return", "length": "length", "x_max": "x_max", "flag": "flag", "score": "score",
    "coins": "coins", "time": "time_left",
    "return_std": "return_std", "flag_rate": "flag_rate", "x_max_best": "x_best",
}  # fmt: skip


def episode_metrics(stats: Mapping[str, float], group: str = "play") -> dict[str, float]:
    """Give an episode's statistics, and those of the env's `stats`, the metric table's names."""
    names = EPISODE_NAMES | {key: key for key in stats if key.startswith(f"{STATS}/")}
    return {f"{group}/{name}": stats[key] for key, name in names.items() if key in stats}


def stage_flag_rates(episodes: Iterable[Mapping[str, float]], group: str) -> dict[str, float]:
    """Compute the share of episodes that reached the flag, stage by stage.

    Args:
        episodes: statistics with `world`, `stage` and `flag`; others are left out.
        group: prefix, such as "eval/sampled".

    Returns:
        `group/<world>-<stage>/flag_rate`; empty where all are of one stage.
    """
    flags: dict[str, list[float]] = {}
    for stats in episodes:
        if {"world", "stage", "flag"} <= stats.keys():
            name = f"{stats['world']:.0f}-{stats['stage']:.0f}"
            flags.setdefault(name, []).append(stats["flag"])
    if len(flags) < 2:
        return {}
    return {f"{group}/{name}/flag_rate": sum(f) / len(f) for name, f in sorted(flags.items())}


class Report:
    """Gather what happens, and log it from time to time.

    Args:
        progress: shows on the terminal how the run goes; None for silence.
        evaluate: called with the agent steps; returns metrics to log. None: no evaluation.
        action_repeat: frames per agent step.
        replay_size: called for the number of records at hand.
        window: how many past episodes the running means are over.
        write_model: called with each checkpoint's folder and the agent steps; writes a model
            that others can play with and returns its folder, which the tracker keeps.
        records_per_update: B * T, for `run/replay_ratio`.
        watched: full metric name -> 0-dim tensor that changes in place, logged with each report.
    """

    def __init__(
        self,
        tracker: Tracker,
        progress: Progress | None = None,
        evaluate: Callable[[int], dict[str, float]] | None = None,
        action_repeat: int = 4,
        replay_size: Callable[[], int] = int,
        window: int = 20,
        write_model: Callable[[Path, int], Path | None] | None = None,
        records_per_update: int = 0,
        watched: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.tracker, self.progress = tracker, progress or NoProgress()
        self._evaluate, self._write_model = evaluate, write_model
        self._evaluated: tuple[int, dict[str, float]] = (-1, {})
        self._saved: tuple[int, Path | None] = (-1, None)
        self.action_repeat, self.records_per_update = action_repeat, records_per_update
        self.replay_size = replay_size
        self.watched = dict(watched or {})
        self.updates = 0
        self.episodes = 0
        self.flags = 0
        self.best_x = 0.0
        self.last: dict[str, float] = {}
        self.recent: deque[dict[str, float]] = deque(maxlen=window)
        # Each of several stages has a window of its own: rare ones would drop out of `recent`.
        self.by_stage: dict[str, deque[dict[str, float]]] = {}
        self._metrics: Mapping[str, Tensor] = {}
        self._since = (work_seconds(), 0, 0)
        self._learn_time = 0.0
        self._mark = work_seconds()

    def played(
        self, ended: Iterable[Mapping[str, float]], agent_steps: int, new_steps: int = 0
    ) -> None:
        """Log the episodes that ended since the last call.

        Args:
            ended: statistics of each, see `episode_ends`.
        """
        if self._since[1] == 0:
            self._since = (work_seconds(), agent_steps - new_steps, self.updates)
        for stats in ended:
            self.episodes += 1
            self.flags += int(stats.get("flag", 0))
            self.best_x = max(self.best_x, stats.get("x_max", 0.0))
            self.recent.append(dict(stats))
            stage = f"{stats.get('world', 0):.0f}-{stats.get('stage', 0):.0f}"
            window = self.by_stage.setdefault(stage, deque(maxlen=self.recent.maxlen))
            window.append(dict(stats))
            named = episode_metrics(stats)
            self.tracker.log_metrics(with_seed_names(named), agent_steps)
            self.progress.stats.returns.append(stats.get("return", math.nan))
        self._show_counts()
        self.progress.stats.move(agent_steps, self.updates)
        self._mark = work_seconds()

    def learned(self, metrics: Mapping[str, Tensor], agent_steps: int) -> None:
        """Keep the metrics of an update, as tensors: they are fetched when they are logged."""
        self.updates += 1
        self._metrics = metrics
        now = work_seconds()
        self._learn_time += now - self._mark
        self._mark = now
        self.progress.stats.move(agent_steps, self.updates)

    @property
    def flag_rate(self) -> float:
        """Share of the recent episodes that reached the flag; 0 before any has ended."""
        flags = [episode.get("flag", 0.0) for episode in self.recent]
        return sum(flags) / len(flags) if flags else 0.0

    def stats(self, agent_steps: int) -> dict[str, float]:
        """Return where the run stands: counters, speed, recent episodes; no device is asked."""
        seconds = max(work_seconds() - self._since[0], 1e-9)
        steps, updates = agent_steps - self._since[1], self.updates - self._since[2]
        stats = {
            "run/agent_steps": agent_steps,
            "run/frames": agent_steps * self.action_repeat,
            "run/updates": self.updates,
            "run/episodes": self.episodes,
            "run/replay_size": self.replay_size(),
            "run/replay_ratio": updates * self.records_per_update / max(steps, 1),
            "run/memory_gib": psutil.Process().memory_info().rss / GIB,
            "speed/fps": steps * self.action_repeat / seconds,
            "speed/agent_steps_per_s": steps / seconds,
            "speed/updates_per_s": updates / seconds,
            "speed/learn_time": min(1.0, self._learn_time / seconds),
            "speed/env_time": max(0.0, 1.0 - self._learn_time / seconds),
        }
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            stats["run/gpu_memory_gib"] = torch.cuda.max_memory_allocated() / GIB
        for name in ("return", "length", "x_max"):
            values = [episode[name] for episode in self.recent if name in episode]
            if values:
                stats[f"play/{name}_mean"] = sum(values) / len(values)
        if any("flag" in episode for episode in self.recent):
            stats |= {"play/flag_rate": self.flag_rate, "play/flags": self.flags}
            stats["play/x_best"] = self.best_x
        stages = [episode for window in self.by_stage.values() for episode in window]
        return stats | stage_flag_rates(stages, "play")

    def log(self, agent_steps: int) -> dict[str, float]:
        """Log and show all that is known now; return it."""
        values = {**self.stats(agent_steps), **full_names(self._metrics), **self.watched}
        self.last = with_seed_names(numbers(values))  # one transfer from the device
        self._publish(self.last, agent_steps)
        self._since = (work_seconds(), agent_steps, self.updates)
        self._learn_time = 0.0
        return self.last

    def _publish(self, values: dict[str, float], agent_steps: int) -> None:
        self.tracker.log_metrics(values, agent_steps)
        self.progress.update(values)

    def evaluate(self, agent_steps: int) -> None:
        """Play evaluation episodes and log how they went."""
        if self._evaluate is not None:
            metrics = with_seed_names(self._evaluate(agent_steps))
            self._evaluated = agent_steps, metrics
            self._publish(metrics, agent_steps)
            self._keep_best()

    def _keep_best(self) -> None:
        """Once the newest checkpoint is evaluated, keep it if it is the best so far."""
        (saved_at, path), (evaluated_at, metrics) = self._saved, self._evaluated
        if path is not None and saved_at == evaluated_at:
            keep_best(path, saved_at, metrics)

    @contextlib.contextmanager
    def phase(self, what: str) -> Iterator[None]:
        """Show on the terminal what takes time now, such as "saving"."""
        self.progress.busy(what)
        try:
            yield
        finally:
            self.progress.busy(None)
            self._mark = work_seconds()

    def saved(self, path: Path, agent_steps: int) -> None:
        """Show that a checkpoint has been written; the tracker keeps the newest weights."""
        for name in ("agent.pt", "config.yaml", "manifest.json"):
            self.tracker.log_artifact(path / name, "checkpoints/latest")
        again = self._saved == (agent_steps, path)  # the last one, with its evaluation
        self._saved = agent_steps, path
        self._keep_best()
        model = None if self._write_model is None else self._write_model(path, agent_steps)
        if model is not None:
            self.tracker.log_model(model, agent_steps)
        if not again:
            self.progress.note(f"saved {path} at agent step {agent_steps:,}")

    def state_dict(self) -> dict[str, Any]:
        """Counters that a resume goes on with."""
        return {
            "updates": self.updates,
            "episodes": self.episodes,
            "flags": self.flags,
            "best_x": self.best_x,
            "recent": list(self.recent),
            "by_stage": {name: list(window) for name, window in self.by_stage.items()},
            "metrics": {name: value.cpu() for name, value in self._metrics.items()},
        }

    def load_state_dict(
        self, state: dict[str, Any], saved: tuple[int, Path | None] = (-1, None)
    ) -> None:
        """Restore the counters.

        Args:
            saved: agent steps and folder of the run's newest checkpoint, which its evaluation may
                find to be the best one: a kill may have cut that off.
        """
        self._saved = saved
        self.updates, self.episodes = state["updates"], state["episodes"]
        self.flags, self.best_x = state["flags"], state["best_x"]
        self.recent.extend(state["recent"])
        for name, window in state.get("by_stage", {}).items():
            self.by_stage[name] = deque(window, maxlen=self.recent.maxlen)
        self._metrics = dict(state.get("metrics", {}))
        self._show_counts()

    def _show_counts(self) -> None:
        shown = self.progress.stats
        shown.episodes, shown.flags, shown.best_x = self.episodes, self.flags, self.best_x
