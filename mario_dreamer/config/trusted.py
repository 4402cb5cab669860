"""Check what a configuration that came with a checkpoint may build, read and contact.

Weights are read as data and can run nothing. A stored config.yaml names classes, and Hydra would
call whatever it finds there, so it is checked first: parts only in the slots where they belong, no
interpolation (`${oc.env:SECRET}`), no module to import, no address or path that was not typed.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from mario_dreamer.config.limits import leaves

_NETWORK = r"mario_dreamer\.networks\."
_HEAD = _NETWORK + r"heads\.\w+Head"
_LOSS = r"mario_dreamer\.losses(\.\w+)?\.\w+"
# Slot -> the names that may stand there; each has to be a public class or function of that module.
SLOTS = {
    "env": r"mario_dreamer\.envs(\.\w+)+\.make_\w+_env",
    "env.reward": r"mario_dreamer\.envs\.mario\.rewards\.\w+",
    "encoder": _NETWORK + r"encoder\.\w+",
    "vector_encoder": _NETWORK + r"encoder\.\w+",
    "decoder": _NETWORK + r"decoder\.\w+",
    "vector_decoder": _NETWORK + r"decoder\.\w+",
    "rssm": _NETWORK + r"rssm\.\w+",
    "rssm.sequence_model": _NETWORK + r"sequence_models\.\w+",
    "reward": _HEAD,
    "cont": _HEAD,
    "critic": _HEAD,
    "actor": _NETWORK + r"(action_)?heads\.\w*[hH]ead",
    "loss.discount": _LOSS,
    "loss.world_model": _LOSS,
    "loss.actor": _LOSS,
    "loss.critic": _LOSS,
    "loss.returns": r"mario_dreamer\.agent\.returns\.\w+",
    "optimizer": r"mario_dreamer\.training\.optim\.\w+",
    "optimizer.optimizer": r"(torch|mario_dreamer\.training)\.optim\.\w+",
    "replay": r"mario_dreamer\.replay(\.\w+)?\.make_replay",
    "tracker": r"mario_dreamer\.tracking(\.\w+)+\.\w*Tracker",
}
# Gymnasium imports the module of an id such as "module:Id"; these are packages of environments.
ENV_MODULES = frozenset({"ale_py", "gym_super_mario_bros", "minigrid"})
HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_")
# What a resumed run writes to or contacts.
DESTINATIONS = ("tracker.tracking_uri", "tracker.options", "replay.path")
OFFLINE_LOGGERS = ("csv", "tensorboard")
TRUST = "If you trust where it comes from, add trust_config=true."


def check_stored(cfg: Any) -> None:
    """Refuse a stored configuration that would do more than build the parts of an agent.

    Args:
        cfg: as it was read, not resolved.

    Raises:
        ValueError: naming the place and what stands there.
    """
    for path, value in leaves(cfg):
        if isinstance(value, str) and "${" in value:
            raise ValueError(
                f"the stored configuration refers to something else: {path}={value!r}. "
                f"Configurations are stored without references. {TRUST}"
            )
        module, colon, _ = value.partition(":") if isinstance(value, str) else ("", "", "")
        if colon and path.startswith("env.") and module not in ENV_MODULES:
            raise ValueError(
                f"the stored configuration would import a module: {path}={value!r}. {TRUST}"
            )
    check_targets(cfg)


def word_of_trust(cfg: Any) -> str:
    """What has to be typed besides to load a run of this configuration; "" where it is nothing."""
    try:
        check_stored(cfg)
    except ValueError:
        return " trust_config=true"
    return ""


def check_targets(cfg: Any) -> None:
    """Refuse a configuration that names a class or function outside of the slot for it.

    What counts is where a class or function is defined, not only how its name begins:
    `mario_dreamer.commands.os.system` begins like one of ours and is not.

    Raises:
        ValueError: naming the place and the class.
    """
    for path, value in leaves(cfg):
        parent, _, key = path.rpartition(".")
        if key == "_target_" and not _belongs(parent, value):
            raise ValueError(
                f"the stored configuration would build {path}={str(value)!r}, which is no part "
                f"of mario_dreamer for this place. {TRUST}"
            )
        if key.startswith("_") and key.endswith("_") and key not in HYDRA_KEYS:
            raise ValueError(f"the stored configuration gives Hydra the option {path}. {TRUST}")


def check_destinations(cfg: DictConfig, folder: Path, typed: Collection[str]) -> None:
    """Refuse to contact an address, or to write to a path, that came with a checkpoint.

    Databases in the current folder or in the run's, and $MLFLOW_TRACKING_URI, need no asking.

    Args:
        cfg: the stored configuration, before what was typed is applied.
        typed: names of the options typed now; those are the user's own.

    Raises:
        ValueError: naming the option and what it holds.
    """
    logger = OmegaConf.select(cfg, "tracker.logger")
    names = [*DESTINATIONS, *(["tracker.logger"] if logger not in OFFLINE_LOGGERS else [])]
    for name in names:
        value = OmegaConf.select(cfg, name)
        if not value or any(word == name or word.startswith(f"{name}.") for word in typed):
            continue
        if name == "tracker.tracking_uri" and is_near(str(value), folder):
            continue
        raise ValueError(
            f"the checkpoint comes with {name}={value}, where this run would send or write its "
            f"data. If that is yours, type {name}={value}; another value or null replaces it. "
            "trust_config=true accepts all that the checkpoint says."
        )


def is_near(uri: str, folder: Path) -> bool:
    """Whether a tracking URI is the user's own, or a database below the current or run's folder."""
    if uri == os.environ.get("MLFLOW_TRACKING_URI"):
        return True
    path = re.fullmatch(r"sqlite:///([^?#%:]+)", uri)
    if path is None:
        return False
    file = Path(path[1]).resolve()
    return any(file.is_relative_to(place.resolve()) for place in (Path.cwd(), folder))


def _belongs(slot: str, target: Any) -> bool:
    """Whether a name means a public class or function that is defined where its slot says."""
    if not isinstance(target, str) or not re.fullmatch(SLOTS.get(slot, r"(?!)"), target):
        return False
    if any(part.startswith("_") for part in target.split(".")):
        return False
    try:
        found = get_object(target)
    except Exception:  # whatever is wrong with it, it is not one of ours
        return False
    home = ".".join(target.split(".")[:2])  # mario_dreamer.networks, torch.optim
    kind = inspect.isclass(found) or inspect.isfunction(found)
    return kind and f"{found.__module__}.".startswith(f"{home}.")
