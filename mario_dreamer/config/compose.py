"""Compose configurations from the files of configs/."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from hydra import compose, initialize_config_dir, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mario_dreamer.config.moved import with_new_targets

__all__ = ["CONFIGS", "compose_default", "given_overrides"]


HERE = Path(__file__).resolve().parents[2] / "configs"


# Installed, the configurations are a package; in a bare checkout they are a folder.
CONFIGS = "pkg://mario_dreamer.configs" if find_spec("mario_dreamer.configs") else str(HERE)


def given_overrides() -> list[str]:
    """Return what was typed on the command line after the command."""
    return list(HydraConfig.get().overrides.task)


def compose_default(overrides: list[str] | None = None) -> DictConfig:
    """Compose configs/train.yaml outside of a training command.

    Args:
        overrides: choices and values, as typed on a command line; None: the laptop experiment.
    """
    GlobalHydra.instance().clear()
    start = initialize_config_module if CONFIGS.startswith("pkg://") else initialize_config_dir
    with start(CONFIGS.removeprefix("pkg://"), version_base="1.3"):
        return with_new_targets(compose("train", overrides or ["experiment=laptop"]))
