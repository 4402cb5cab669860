"""What a run reads from Gymnasium's info dict: legal actions and statistics of the episode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torchrl.data import Binary, Composite, TensorSpec, Unbounded
from torchrl.envs.gym_like import BaseInfoDictReader

from mario_dreamer.keys import ACTION_MASK, STATS


class InfoReader(BaseInfoDictReader):
    """Copy `action_mask` and the numbers in `stats` from the info into the TensorDict.

    They become `action_mask`, bool [A], and ("stats", name), float32 [1] each. What an info lacks
    is all legal, or 0.

    Args:
        info: the info of a reset: what it holds is read from then on.
    """

    def __init__(self, info: Mapping[str, Any]) -> None:
        self.names = list(info.get(STATS, ()))
        mask = info.get(ACTION_MASK)
        self.num_actions = 0 if mask is None else np.hstack(mask).size

    def __call__(self, info_dict: dict[str, Any], tensordict: TensorDictBase) -> TensorDictBase:
        """Read the info of a step or a reset."""
        if self.num_actions:
            mask = np.hstack(info_dict.get(ACTION_MASK, np.ones(self.num_actions)))
            tensordict.set(ACTION_MASK, torch.as_tensor(mask.astype(bool)))
        stats = info_dict.get(STATS, {})
        for name in self.names:
            tensordict.set((STATS, name), torch.tensor([float(stats.get(name, 0.0))]))
        return tensordict

    @property
    def info_spec(self) -> dict[str, TensorSpec]:
        """Describe what is read."""
        specs: dict[str, TensorSpec] = {}
        if self.num_actions:
            specs[ACTION_MASK] = Binary(self.num_actions, dtype=torch.bool)
        if self.names:
            specs[STATS] = Composite({name: Unbounded([1]) for name in self.names})
        return specs
