"""Schedules of a run: updates per step, entropy scale, intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


class UpdateRatio:
    """Keep learning in step with playing: `train_ratio` replayed records for each agent step.

    Paper: arXiv:2301.04104, "Hyperparameters", replay ratio.

        updates per agent step = train_ratio / (batch_size * batch_length)

    Counting starts at the first call, so neither the prefill nor a resume owes a burst of
    updates. What is left of a fraction is carried over.

    Args:
        train_ratio: replayed records per agent step, above 0.
        batch_size: B.
        batch_length: T.
        before_flag: `train_ratio` until an episode has reached the flag; None: the same.
    """

    def __init__(
        self,
        train_ratio: float,
        batch_size: int,
        batch_length: int,
        before_flag: float | None = None,
    ) -> None:
        self.updates_per_step = train_ratio / (batch_size * batch_length)
        self.before_flag = (before_flag or train_ratio) / (batch_size * batch_length)
        self.last_step: int | None = None
        self.owed = 0.0

    def due(self, agent_steps: int, flag: bool = True) -> int:
        """Return how many updates are to be made now.

        Args:
            agent_steps: steps played so far by all environments together.
            flag: whether any episode so far has reached the flag.
        """
        if self.last_step is not None:
            per_step = self.updates_per_step if flag else self.before_flag
            self.owed += (agent_steps - self.last_step) * per_step
        self.last_step = agent_steps
        # Sums of a fraction such as 1/16 + ... must not fall a hair short of a whole number.
        whole = math.floor(self.owed + 1e-9)
        self.owed -= whole
        return whole

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs."""
        return {"last_step": self.last_step, "owed": self.owed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.last_step, self.owed = state["last_step"], state["owed"]


class EntropySchedule:
    """Lower the actor's entropy scale as more episodes succeed: the less fails, the less is tried.

        eta = first ** (1 - success) * solved ** success

    Args:
        scale: the loss's entropy scale, 0-dim, changed in place; it holds `first`.
        solved: eta when every recent episode succeeds; None leaves the scale alone.
    """

    def __init__(self, scale: Tensor, solved: float | None) -> None:
        self.scale, self.first, self.solved = scale, float(scale), solved
        self.success = 0.0

    def follow(self, success: float) -> None:
        """Set the scale for a share of successes, in [0, 1]."""
        if self.solved is not None and success != self.success:
            self.success = success
            self.scale.fill_(self.first ** (1 - success) * self.solved**success)


@dataclass
class LoopState:
    """Where the loop stands between two batches of transitions, so that a resume goes on there.

    Args:
        learning: the prefill is over.
        pending: updates that the last steps earned and that have not been made yet.
        last: agent step at which each thing that happens every so many steps last did.
        evaluating: time in seconds when the evaluation of this step began; None once it is
            complete. What was logged at this step before belongs to training.
        agent_steps: steps played so far.
        stopped: why training ended: "steps", "minutes", or what ended it early, see `Interrupt`.
        saved_at: agent steps of the last checkpoint that this process wrote; None before.
    """

    learning: bool = False
    pending: int = 0
    last: dict[str, int] = field(default_factory=dict)
    evaluating: float | None = None
    agent_steps: int = 0
    stopped: str = ""
    saved_at: int | None = None

    def begin(self, agent_steps: int, learning: bool) -> None:
        """Start counting."""
        self.agent_steps, self.stopped, self.saved_at = agent_steps, "", None
        self.last = dict.fromkeys(("log", "eval", "save"), agent_steps) | self.last
        self.learning = self.learning or learning

    def due(self, what: str, interval: int) -> bool:
        """Whether an interval has passed since the last time; several at a time count as one.

        Args:
            what: such as "save".
            interval: agent steps between two times; 0 means never.
        """
        last = self.last.get(what, 0)
        if not interval or self.agent_steps // interval == last // interval:
            return False
        self.last[what] = self.agent_steps
        return True

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs."""
        return {name: getattr(self, name) for name in ("learning", "pending", "evaluating")} | {
            "last": dict(self.last)
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.learning, self.pending = state["learning"], state["pending"]
        began = state.get("evaluating")
        self.evaluating = math.inf if began is True else began or None  # older ones hold a bool
        self.last = dict(state["last"])
