"""Compose configurations, and read those stored with a checkpoint."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from hydra import compose, initialize_config_dir, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from mario_dreamer.config.moved import with_new_targets
from mario_dreamer.training.checkpoint_files import CheckpointError

__all__ = ["CONFIGS", "compose_default", "given_overrides", "stored_config"]


HERE = Path(__file__).resolve().parents[2] / "configs"


# Installed, the configurations are a package; in a bare checkout they are a folder.
CONFIGS = "pkg://mario_dreamer.configs" if find_spec("mario_dreamer.configs") else str(HERE)


def given_overrides() -> list[str]:
    """Return what was typed on the command line after the command."""
    return list(HydraConfig.get().overrides.task)


def stored_config(checkpoint: Path, overrides: list[str]) -> tuple[DictConfig, list[str]]:
    """Return the configuration a checkpoint was made with, changed by values typed now.

    Args:
        checkpoint: its folder.
        overrides: such as `steps=200000`; choices such as `size=size25m` cannot be changed
            any more and are returned as the second result.

    Raises:
        CheckpointError: when the configuration is not there.
        ValueError: when a value is named that the configuration does not have.
    """
    file = checkpoint / "config.yaml"
    if not file.is_file():
        raise CheckpointError(f"{file} is missing: the checkpoint cannot be used without it.")
    try:
        cfg = OmegaConf.load(file)
        OmegaConf.to_container(cfg, resolve=True)
    except Exception as error:  # yaml, OmegaConf and Unicode have many words for "not readable"
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{file} is not a configuration ({reason}).") from error
    if not isinstance(cfg, DictConfig) or "env" not in cfg:
        raise CheckpointError(f"{file} is not a run's configuration; it holds no `env`.")
    values, choices = [], []
    for override in overrides:
        name = override.lstrip("+~").split("=", 1)[0]
        is_choice = "@" in name or OmegaConf.is_dict(OmegaConf.select(cfg, name.replace("/", ".")))
        (choices if is_choice or name == "experiment" else values).append(override)
    for value in OverridesParser.create().parse_overrides(values):  # as the command line is read
        name = value.key_or_group
        if not value.is_add() and not _has(cfg, name):
            raise ValueError(
                f"{name!r} is not in the run's configuration {file}. Look it up there, or add it "
                f"with +{name}=..."
            )
        OmegaConf.update(cfg, name, value.value(), force_add=True)
    return with_new_targets(cfg), choices


def _has(cfg: DictConfig, name: str) -> bool:
    *path, leaf = name.split(".")
    parent = OmegaConf.select(cfg, ".".join(path)) if path else cfg
    return OmegaConf.is_dict(parent) and leaf in parent


def compose_default(overrides: list[str] | None = None) -> DictConfig:
    """Compose configs/train.yaml outside of a training command.

    Args:
        overrides: choices and values, as typed on a command line; None: the laptop experiment.
    """
    GlobalHydra.instance().clear()
    start = initialize_config_module if CONFIGS.startswith("pkg://") else initialize_config_dir
    with start(CONFIGS.removeprefix("pkg://"), version_base="1.3"):
        return with_new_targets(compose("train", overrides or ["experiment=laptop"]))
