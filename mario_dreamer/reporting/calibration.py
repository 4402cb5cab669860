"""Does the agent know what is coming? Predicted rewards and values against what really came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mario_dreamer import keys
from mario_dreamer.reporting.episodes import Watched

__all__ = ["Pairs", "discounted_returns", "reward_pairs", "value_pairs"]


@dataclass
class Pairs:
    """Predictions and what came true, one pair per agent step.

    Args:
        predicted, real: of the same length.
        cut: how many of the episodes behind them were cut off, not ended.
    """

    predicted: list[float]
    real: list[float]
    cut: int = 0

    @property
    def bias(self) -> float:
        """Mean of predicted - real: above 0, the agent hopes for too much."""
        pairs = zip(self.predicted, self.real, strict=True)
        return sum(p - r for p, r in pairs) / max(1, len(self.real))

    @property
    def error(self) -> float:
        """Root of the mean squared difference."""
        pairs = zip(self.predicted, self.real, strict=True)
        return math.sqrt(sum((p - r) ** 2 for p, r in pairs) / max(1, len(self.real)))

    @property
    def correlation(self) -> float:
        """Pearson's r; NaN where one side does not vary."""
        if len(self.real) < 2:
            return math.nan
        both = torch.tensor([self.predicted, self.real], dtype=torch.float64)
        spread = both.std(1, correction=0)
        if float(spread.min()) == 0.0:
            return math.nan
        centred = both - both.mean(1, keepdim=True)
        return float(centred.prod(0).mean() / spread.prod())


def discounted_returns(reward: Tensor, gamma: float, bootstrap: float = 0.0) -> Tensor:
    """Add up what really came after each record, later rewards counting less.

        R_t = r_{t+1} + gamma * R_{t+1},   R_T = bootstrap

    Args:
        reward: r_0 .. r_T, [T + 1]; r_0 is not used: it arrived before.
        gamma: discount per agent step.
        bootstrap: what is still to come after the last record; 0 where the episode ended.

    Returns:
        R_0 .. R_{T-1}, [T].
    """
    result, out = float(bootstrap), []
    for paid in reward[1:].flip(0).tolist():
        result = paid + gamma * result
        out.append(result)
    return torch.tensor(out[::-1])


def value_pairs(watched: Sequence[Watched], gamma: float) -> Pairs:
    """Compare the critic's mean at each frame with the discounted return that came after it.

    An episode that was cut off (not ended by the game) has no known return: there the critic's
    own value of the last frame stands for what would have come.
    """
    pairs = Pairs([], [])
    for seen in watched:
        ended = bool(seen.records[keys.IS_TERMINAL][-1])
        value = seen.states["said_value"].flatten()
        rest = 0.0 if ended else float(value[-1])
        pairs.cut += not ended
        pairs.predicted += value[:-1].tolist()
        pairs.real += discounted_returns(seen.records[keys.REWARD].flatten(), gamma, rest).tolist()
    return pairs


def reward_pairs(watched: Sequence[Watched]) -> Pairs:
    """Compare the reward head's word on each frame with the reward that arrived with it."""
    pairs = Pairs([], [])
    for seen in watched:
        pairs.predicted += seen.states["said_reward"][1:].flatten().tolist()
        pairs.real += seen.records[keys.REWARD][1:].flatten().tolist()
    return pairs
