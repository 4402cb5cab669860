"""Compose configurations from the files of configs/."""

from __future__ import annotations

import inspect
from pydoc import locate

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from mario_dreamer.config.command_line import compose_config
from mario_dreamer.config.stored import with_new_targets


def given_overrides() -> list[str]:
    """Return what was typed on the command line after the command."""
    return list(HydraConfig.get().overrides.task)


def own_env_options(cfg: DictConfig, typed: list[str]) -> tuple[DictConfig, list[str]]:
    """Drop the options of `cfg.env` that a recipe set for its own env and this env does not take.

    Args:
        cfg: as composed; it is not changed.
        typed: what was typed on the command line: those options stay, so that they are refused.

    Returns:
        the configuration, and the names of what was dropped.
    """
    try:
        taken = inspect.signature(locate(str(cfg.env._target_))).parameters
    except Exception:  # it cannot be imported or inspected: building it says so
        return cfg, []
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        return cfg, []
    named = {word.lstrip("+~").split("=", 1)[0] for word in typed}
    foreign = [
        str(key) for key in cfg.env
        if key not in taken and not str(key).startswith("_") and f"env.{key}" not in named
    ]  # fmt: skip
    cfg = cfg.copy()
    cfg.env = OmegaConf.masked_copy(cfg.env, [key for key in cfg.env if key not in foreign])
    return cfg, foreign


def compose_default(overrides: list[str] | None = None) -> DictConfig:
    """Compose configs/train.yaml outside of a training command.

    Args:
        overrides: choices and values, as typed on a command line; None: the laptop experiment.
    """
    cfg = with_new_targets(compose_config("train", overrides or ["experiment=laptop"]))
    return own_env_options(cfg, overrides or [])[0]
