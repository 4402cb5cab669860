"""Calibration: predicted rewards and values against those that followed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mario_dreamer import keys
from mario_dreamer.reporting.episodes import Watched


@dataclass
class Pairs:
    """Predictions and outcomes, one pair per agent step.

    Args:
        predicted, real: of the same length.
        cut: how many of the episodes behind them were cut off, not ended.
    """

    predicted: list[float]
    real: list[float]
    cut: int = 0

    @property
    def bias(self) -> float:
        """Mean of predicted - real; above 0 the agent is too optimistic."""
        return float(np.mean(np.subtract(self.predicted, self.real)))

    @property
    def error(self) -> float:
        """Root of the mean squared difference."""
        return float(np.sqrt(np.mean(np.subtract(self.predicted, self.real) ** 2)))

    @property
    def correlation(self) -> float:
        """Pearson's r; NaN where one side does not vary."""
        if len(self.real) < 2 or not np.std([self.predicted, self.real], axis=1).all():
            return math.nan
        return float(np.corrcoef(self.predicted, self.real)[0, 1])


def discounted_returns(reward: Tensor, gamma: float, bootstrap: float = 0.0) -> Tensor:
    """Compute the discounted return that followed each record.

        R_t = r_{t+1} + gamma * R_{t+1},   R_T = bootstrap

    Args:
        reward: r_0 .. r_T, [T + 1]; r_0 is not used: it arrived before.
        gamma: discount per agent step.
        bootstrap: return after the last record; 0 where the episode ended.

    Returns:
        R_0 .. R_{T-1}, [T].
    """
    result, out = float(bootstrap), []
    for received in reward[1:].flip(0).tolist():
        result = received + gamma * result
        out.append(result)
    return torch.tensor(out[::-1])


def value_pairs(watched: Sequence[Watched], gamma: float) -> Pairs:
    """Compare the critic's mean at each frame with the discounted return that followed.

    An episode that was cut off (not ended by the game) has no known return: there the critic's
    own value of the last frame bootstraps it.
    """
    pairs = Pairs([], [])
    for seen in watched:
        ended = bool(seen.records[keys.IS_TERMINAL][-1])
        value = seen.states["value_mean"].flatten()
        rest = 0.0 if ended else float(value[-1])
        pairs.cut += not ended
        pairs.predicted += value[:-1].tolist()
        pairs.real += discounted_returns(seen.records[keys.REWARD].flatten(), gamma, rest).tolist()
    return pairs


def reward_pairs(watched: Sequence[Watched]) -> Pairs:
    """Compare the reward head's mean at each frame with the reward that arrived with it."""
    pairs = Pairs([], [])
    for seen in watched:
        pairs.predicted += seen.states["reward_mean"][1:].flatten().tolist()
        pairs.real += seen.records[keys.REWARD][1:].flatten().tolist()
    return pairs
