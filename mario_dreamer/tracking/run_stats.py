"""Numbers that the terminal shows of a run: progress, speed, time to go, episodes, losses."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from mario_dreamer.tracking.clock import work_seconds

# What is shown of the losses: metric name -> label.
LOSSES = {
    "train/loss_recon": "recon",
    "train/loss_reward": "reward",
    "train/loss_cont": "cont",
    "train/loss_dyn": "dyn",
    "kl": "kl",
    "train/loss_critic": "critic",
    "train/loss_actor": "actor",
    "dream/entropy": "entropy",
}


def duration(seconds: float) -> str:
    """Write seconds as hours:minutes:seconds.

    >>> duration(3725)
    '1:02:05'
    >>> duration(float("inf"))
    '?'
    """
    if not math.isfinite(seconds) or seconds < 0:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def arrow(now: float, before: float | None) -> str:
    """Show whether a number went up (^), down (v), or stayed within 1 % of what it was (=).

    Args:
        now, before: of this report and of the last one; None when there was none.
    """
    if before is None or math.isnan(now) or math.isnan(before):
        return ""
    if math.isclose(now, before, rel_tol=0.01, abs_tol=1e-4):
        return "="
    return "^" if now > before else "v"


def _short(value: float) -> str:
    """Three digits, and no exponent for thousands."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


class RunStats:
    """Collect what is known about a run: counters, speed, the last two reports, the episodes.

    Args:
        start_step: agent steps when this process began; None: those of the first report.
        minutes: time limit of this process; None for none.
        prefill: agent steps that are played before learning begins.
        action_repeat: frames per agent step.

    Attributes:
        episodes, flags, best_x, returns: of the training episodes, which `Report` counts.
    """

    def __init__(
        self,
        total_steps: int,
        start_step: int | None = None,
        minutes: float | None = None,
        prefill: int = 0,
        action_repeat: int = 4,
    ) -> None:
        self.total_steps, self.step, self.updates = total_steps, start_step or 0, 0
        self.minutes, self.prefill, self.action_repeat = minutes, prefill, action_repeat
        self.last: dict[str, float] = {}
        self.before: dict[str, float] = {}
        self.returns: deque[float] = deque(maxlen=5)
        self.episodes = self.flags = 0
        self.best_x = 0.0
        self.busy: tuple[str, float] | None = None  # such as saving, and since when
        self._first_updates: int | None = None
        # (seconds, step, updates) of the last quarter of an hour of learning, or of collecting.
        self._pace: deque[tuple[float, int, int]] = deque(maxlen=450)
        self._began = work_seconds()
        if start_step is not None:
            self._pace.append((self._began, start_step, 0))

    @property
    def is_learning(self) -> bool:
        """Whether this process has made an update."""
        return self._first_updates is not None and self.updates > self._first_updates

    def move(self, step: int, updates: int) -> None:
        """Note how far the whole run is; cheap, for every iteration of the loop."""
        now, was_learning = work_seconds(), self.is_learning
        self.step, self.updates = step, updates
        if self._first_updates is None:
            self._first_updates = updates
        if self.is_learning and not was_learning:
            self._pace.clear()  # collecting has another speed
        if not self._pace or now - self._pace[-1][0] >= 2.0:
            self._pace.append((now, step, updates))

    def report(self, values: Mapping[str, Any]) -> None:
        """Note the numbers of a report, and keep the last ones to compare with."""
        fresh = {name: float(value) for name, value in values.items()}
        self.before |= {name: self.last[name] for name in fresh if name in self.last}
        self.last |= fresh
        step = fresh.get("run/agent_steps", self.step)
        self.move(int(step), int(fresh.get("run/updates", self.updates)))

    @property
    def elapsed(self) -> float:
        """Working seconds since this process began."""
        return work_seconds() - self._began

    @property
    def eta(self) -> float:
        """Seconds to go, by steps or minutes, whichever ends first; infinite while unknown."""
        limit = math.inf if self.minutes is None else 60 * self.minutes - self.elapsed
        seconds, steps, _ = self._since(math.inf)
        is_known = self.is_learning and steps > 0
        by_steps = seconds / steps * max(0, self.total_steps - self.step) if is_known else math.inf
        return max(0.0, min(limit, by_steps))

    @property
    def phase(self) -> str:
        """What the run does now."""
        if self.busy is not None:
            return f"{self.busy[0]} {work_seconds() - self.busy[1]:.0f} s"
        if self.is_learning:
            return "learning"
        goal = f" {self.step:,}/{self.prefill:,}" if self.step < self.prefill else ""
        return f"collecting{goal}"

    @property
    def speed(self) -> str:
        """Frames and updates per second over the last half minute; empty while unknown."""
        seconds, steps, updates = self._since(30.0)
        if seconds < 1.0:
            return ""
        frames = steps * self.action_repeat
        return f"{frames / seconds:,.0f} frames/s, {updates / seconds:.2g} updates/s"

    def _since(self, seconds: float) -> tuple[float, int, int]:
        """Seconds, steps and updates since the oldest mark of the last so many seconds."""
        now = work_seconds()
        # Of a copy: the display calls this from a thread of its own.
        recent = [mark for mark in tuple(self._pace) if mark[0] > now - seconds]
        then, step, updates = recent[0] if recent else (now, self.step, self.updates)
        return now - then, self.step - step, self.updates - updates

    def groups(self) -> dict[str, str]:
        """Put everything into words: label -> text; what is not known yet is left out."""
        last, has_place = self.last, self.best_x > 0
        share = math.floor(100 * min(1.0, self.step / max(1, self.total_steps)))
        losses = (
            f"{label} {_short(last[name])}{arrow(last[name], self.before.get(name))}"
            for name, label in LOSSES.items()
            if name in last
        )
        found = {
            "step": f"{self.step:,}/{self.total_steps:,} ({share}%)",
            "frames": f"{self.step * self.action_repeat:,}",
            "updates": f"{self.updates:,}",
            "speed": self.speed,
            "episodes": self.episodes and f"{self.episodes}",
            "last 5 returns": " ".join(f"{value:.0f}" for value in tuple(self.returns)),
            "best x": has_place and f"{self.best_x:,.0f}",
            "flags": has_place and f"{self.flags}",
            "eval": "eval_return" in last and f"{last['eval_return']:.0f}",
            "losses": "  ".join(losses),
            "replay": "run/replay_size" in last and f"{last['run/replay_size']:,.0f}",
            "memory": "run/memory_gib" in last and f"{last['run/memory_gib']:.1f} GiB",
            "time": f"{duration(self.elapsed)}, {duration(self.eta)} to go",
        }
        return {label: text for label, text in found.items() if text}
