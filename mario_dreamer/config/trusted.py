"""May a configuration that came with a checkpoint build what it names?

A checkpoint's weights are read as data and can run nothing; its config.yaml names classes, and
Hydra would call whatever it finds there. So a stored configuration is looked through first.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig

__all__ = ["TRUSTED", "check_targets"]

# The parts that an agent and its worlds are made of. Not all of mario_dreamer: the commands would
# run. Not torchrl: there are functions in it that download, and classes that import what they
# are told to.
PARTS = (
    "agent", "distributions", "envs", "losses", "networks", "replay", "tracking",
    "training.optim",
)  # fmt: skip
TRUSTED = (*(f"mario_dreamer.{part}." for part in PARTS), "torch.optim.", "torch.nn.")


def check_targets(cfg: Any, where: str = "") -> None:
    """Refuse a stored configuration that would call anything from outside the trusted packages.

    What counts is where a class or function is defined, not only how its name begins:
    `mario_dreamer._command.os.system` begins like one of ours and is not. Lists are looked into
    as well, because Hydra instantiates what stands in them.

    Args:
        cfg: a configuration, or a part of one.
        where: its path, for the message.

    Raises:
        ValueError: naming the place and the class.
    """
    if isinstance(cfg, DictConfig | Mapping):
        if "_target_" in cfg and not _trusted(cfg["_target_"]):
            raise ValueError(
                f"the stored configuration wants to build {where}._target_="
                f"{str(cfg['_target_'])!r}, which is no public class or function of "
                "an agent's parts in mario_dreamer, torch.nn or torch.optim. If you trust where it "
                "comes from, add trust_config=true."
            )
        for key in cfg:
            check_targets(cfg[key], f"{where}.{key}".lstrip("."))
    elif isinstance(cfg, ListConfig | Sequence) and not isinstance(cfg, str | bytes):
        for number, value in enumerate(cfg):
            check_targets(value, f"{where}[{number}]")


def _trusted(target: Any) -> bool:
    """Whether a dotted name means a public class or function defined in a trusted package."""
    name = str(target)
    if not name.startswith(TRUSTED) or any(part.startswith("_") for part in name.split(".")):
        return False
    try:
        found = get_object(name)
    except Exception:  # whatever is wrong with it, it is not one of ours
        return False
    kind = inspect.isclass(found) or inspect.isfunction(found)
    return kind and f"{found.__module__}.".startswith(TRUSTED)
