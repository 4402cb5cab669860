"""DreamerV3 for Super Mario Bros, built from TorchRL parts.

The names below are what another TorchRL project takes out of here; they are imported on first
use, so that `mario-dreamer --help` does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "ActorLoss": "losses",
    "CriticLoss": "losses",
    "Discount": "returns",
    "DistributionModule": "distribution_module",
    "Imagination": "imagination",
    "LaProp": "optim",
    "Policy": "actor_critic",
    "RSSM": "networks.rssm",
    "Returns": "returns",
    "SlowCritic": "actor_critic",
    "ToRecords": "replay",
    "WorldModel": "world_model",
    "WorldModelLoss": "losses",
    "make_mario_env": "envs.mario",
    "make_replay": "replay",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name from the file it lives in.

    Raises:
        AttributeError: for any other name.
    """
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
