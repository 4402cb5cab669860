"""What the terminal shows of a run: the last report, the one before, the episodes."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

__all__ = ["Facts", "arrow", "duration", "plain_line"]


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
    """Write seconds as people do.

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


def arrow(now: float, before: float | None, signs: tuple[str, str, str] = ("^", "v", "=")) -> str:
    """Say whether a number went up, down, or stayed within 1 % of what it was.

    Args:
        now, before: of this report and of the last one; None when there was none.
        signs: for up, down and level.
    """
    if before is None or math.isnan(now) or math.isnan(before):
        return ""
    if math.isclose(now, before, rel_tol=0.01, abs_tol=1e-4):
        return signs[2]
    return signs[0] if now > before else signs[1]


def _short(value: float) -> str:
    """Three digits, and no exponent for thousands."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


class Facts:
    """What is known about the run: the last report, the one before, the episodes.

    Args:
        total_steps: agent steps of the whole run.
        start_step: agent steps when this process began; None: those of the first report.
    """

    def __init__(self, total_steps: int, start_step: int | None = None) -> None:
        self.total_steps, self.step = total_steps, start_step or 0
        self.last: dict[str, float] = {}
        self.before: dict[str, float] = {}
        self.returns: deque[float] = deque(maxlen=5)
        self.episodes = self.flags = 0
        self.best_x: float | None = None
        # The pace of the last minutes counts: prefill and evaluation have another one.
        self._pace: deque[tuple[float, int]] = deque(maxlen=64)
        self._began = time.monotonic()
        if start_step is not None:
            self._pace.append((self._began, start_step))

    def move(self, step: int) -> None:
        """Note how far the run is."""
        self.step = step
        now = time.monotonic()
        if not self._pace or now - self._pace[-1][0] >= 2.0:
            self._pace.append((now, step))

    def report(self, values: Mapping[str, Any]) -> None:
        """Note the numbers of a report, and keep the last ones to compare with."""
        fresh = {name: float(value) for name, value in values.items()}
        self.before |= {name: self.last[name] for name in fresh if name in self.last}
        self.last |= fresh
        self.move(int(fresh.get("run/agent_steps", self.step)))

    def episode(self, values: Mapping[str, Any]) -> None:
        """Note a finished training episode."""
        self.episodes += 1
        self.returns.append(float(values.get("play/return", math.nan)))
        self.flags += bool(values.get("play/flag", False))
        if "play/x_max" in values:
            self.best_x = max(float(values["play/x_max"]), self.best_x or 0.0)

    @property
    def elapsed(self) -> float:
        """Seconds since this process began."""
        return time.monotonic() - self._began

    @property
    def eta(self) -> float:
        """Seconds to go at the present pace; infinite while there is none."""
        moment, step = self._pace[0] if self._pace else (self._began, self.step)
        gone = self.step - step
        if gone <= 0:
            return math.inf
        return (time.monotonic() - moment) / gone * max(0, self.total_steps - self.step)

    def groups(self, signs: tuple[str, str, str] = ("^", "v", "=")) -> dict[str, str]:
        """Put everything into words: label -> text; what is not known yet is left out."""
        last = self.last
        steps = f"{self.step:,}/{self.total_steps:,}"
        found = {"step": f"{steps} ({self.step / max(1, self.total_steps):.0%})"}
        for label, name in (("frames", "run/frames"), ("updates", "run/updates")):
            if name in last:
                found[label] = f"{last[name]:,.0f}"
        rates = (("speed/fps", "{:,.0f} frames/s"), ("speed/updates_per_s", "{:.2g} updates/s"))
        speeds = [form.format(last[name]) for name, form in rates if name in last]
        if speeds:
            found["speed"] = ", ".join(speeds)
        if self.episodes:
            found["episodes"] = f"{self.episodes}"
            found["return"] = " ".join(f"{value:.0f}" for value in tuple(self.returns))
        if self.best_x is not None:
            found["best x"] = f"{self.best_x:,.0f}"
            found["flags"] = f"{self.flags}"
        if "eval_return" in last:
            found["eval"] = f"{last['eval_return']:.0f}"
        losses = [
            f"{label} {_short(last[name])}{arrow(last[name], self.before.get(name), signs)}"
            for name, label in LOSSES.items()
            if name in last
        ]
        if losses:
            found["losses"] = "  ".join(losses)
        if "run/replay_size" in last:
            found["replay"] = f"{last['run/replay_size']:,.0f}"
        if "run/memory_gib" in last:
            found["memory"] = f"{last['run/memory_gib']:.1f} GiB"
        found["time"] = f"{duration(self.elapsed)}, {duration(self.eta)} to go"
        return found


def plain_line(facts: Facts) -> str:
    """Write a report as one line: `step 1,200/4,000 (30%) | frames 4,800 | ...`."""
    return " | ".join(f"{label} {text}" for label, text in facts.groups().items())
