"""DreamerV3 for Super Mario Bros, built from TorchRL parts.

The names below are what another TorchRL project takes out of here; they are imported on first
use, so that `mario-dreamer --help` does not wait for torch. Three are not TorchRL's of the same
name: `WorldModel` (torchrl.modules), `WorldModelEnv` (torchrl.envs) and `WorldModelLoss`
(torchrl.objectives).
"""

from __future__ import annotations

import importlib
import os
from typing import Any

# Read when torch is imported: operators that an Apple GPU lacks run on the CPU, with a warning.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

_HOMES = {
    "ActorLoss": "losses",
    "CriticLoss": "losses",
    "Discount": "losses.targets",
    "DistributionModule": "agent.distribution_module",
    "Imagination": "agent.imagination",
    "LaProp": "training.optim",
    "Policy": "agent.policy",
    "RSSM": "networks.rssm",
    "Returns": "agent.returns",
    "SlowCritic": "agent.critic",
    "ToRecords": "replay",
    "WorldModel": "agent.world_model",
    "WorldModelEnv": "agent.world_model_env",
    "WorldModelLoss": "losses",
    "load_agent": "config.load_agent",
    "make_mario_env": "envs.mario.make",
    "make_replay": "replay",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name from the file it lives in.

    Raises:
        AttributeError: for any other name.
    """
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("mario_dreamer")
        except PackageNotFoundError:  # a bare checkout
            return "0+unknown"
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")


def __dir__() -> list[str]:
    """The public names, for completion in a notebook."""
    return __all__
