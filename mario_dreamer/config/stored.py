"""Read the configuration that is stored with a checkpoint, and change what may be changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from mario_dreamer.config.combinations import has_option, is_read
from mario_dreamer.config.command_words import parse
from mario_dreamer.config.trusted import check_destinations, check_stored
from mario_dreamer.training.checkpoint_files import CheckpointError, read_small_text

LARGEST = 2**16  # characters
DEEPEST = 50  # lists and mappings inside each other
# Option -> what configs/ derive from it; a stored configuration holds the derived values.
DERIVED = {
    "discount": ("loss.discount.gamma",),
    "actor_grad": ("loss.actor.actor_grad",),
    "discount_lambda": ("loss.returns.lmbda", "loss.critic.lmbda"),
}
# `_target_` as checkpoints written before 2026-11-26 store it -> the same class or function today.
MOVED = {
    f"mario_dreamer.{old}": f"mario_dreamer.{new}"
    for old, new in {
        "envs.gym.make_gym_env": "envs.gymnasium.make_gym_env",
        "envs.mario.make_mario_env": "envs.mario.make.make_mario_env",
        "envs.rewards.MarioReward": "envs.mario.rewards.MarioReward",
        "envs.toy.make_counting_env": "envs.toy.counting.make_counting_env",
        "envs.toy.make_toy_env": "envs.toy.corridor.make_toy_env",
        "envs.worlds.make_delayed_env": "envs.toy.probes.make_delayed_env",
        "envs.worlds.make_memory_env": "envs.toy.probes.make_memory_env",
        "networks.heads.OneHotHead": "networks.action_heads.OneHotHead",
        "optim.ClippedOptimizer": "training.optim.ClippedOptimizer",
        "optim.LaProp": "training.optim.LaProp",
        "returns.Discount": "losses.targets.Discount",
        "returns.Returns": "agent.returns.Returns",
        "tracking.mlflow.MLflowTracker": "tracking.mlflow.tracker.MLflowTracker",
    }.items()
}
# What a resume cannot change, and why.
FIXED = {
    "size": "the weights of the run have these sizes",
    "seed": "a resumed run goes on with the random states that were saved",
    "name": "a resumed run stays in its folder",
    "init_from": "the run has begun",
    "init_parts": "the run has begun",
    "replay.latents": "the stored records have them or not",
    "replay.latent_dtype": "the stored records hold the states in this form",
}


def stored_config(checkpoint: Path, trust: bool = False) -> DictConfig:
    """Return the configuration that a checkpoint was made with, old class paths renamed.

    Args:
        trust: accept classes from anywhere, references and modules to import.

    Raises:
        CheckpointError: when it is not there, or no configuration of a run.
        ValueError: when it would build, import or read what it may not (`config/trusted.py`).
    """
    file = checkpoint / "config.yaml"
    if not file.exists():
        raise CheckpointError(f"{file} is missing: the checkpoint cannot be used without it.")
    try:
        text = read_small_text(file)
        if len(text) > LARGEST:
            raise ValueError(f"it has {len(text):,} characters, more than {LARGEST:,}")
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):  # lazily: deep nesting takes quadratic time
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it has YAML aliases, which can grow without bound")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ValueError(f"it is nested deeper than {DEEPEST}")
        cfg = OmegaConf.create(text)
    except Exception as error:  # yaml, OmegaConf and Unicode have many words for "not readable"
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(f"{file} is not a configuration ({reason}).") from error
    if not isinstance(cfg, DictConfig) or not isinstance(cfg.get("env"), DictConfig):
        raise CheckpointError(f"{file} is not a run's configuration; it holds no `env`.")
    cfg = with_new_targets(cfg)
    if not trust:
        check_stored(cfg)
    return cfg


def resumed_config(
    checkpoint: Path, folder: Path, overrides: Sequence[str], trust: bool = False
) -> tuple[DictConfig, list[str]]:
    """Return the configuration that a run goes on with: the stored one, changed by what was typed.

    Args:
        overrides: such as `steps=200000`; choices such as `size=size25m` and deletions cannot be
            changed any more and are returned as the second result.
        trust: accept everything that the stored configuration names.

    Raises:
        CheckpointError: when the configuration is not there.
        ValueError: when an option is typed that the configuration does not have or that cannot
            be changed, or when the stored one is not to be trusted.
    """
    cfg = stored_config(checkpoint, trust)
    typed, choices = {}, []
    for override in parse(overrides):
        name = override.key_or_group
        group = OmegaConf.select(cfg, name.replace("/", "."))
        is_choice = override.package or OmegaConf.is_dict(group) or name == "experiment"
        if is_choice or override.is_delete():
            choices.append(override.input_line)
        else:
            typed[name] = override
    if not trust:
        check_destinations(cfg, folder, typed)
    before = {name: OmegaConf.select(cfg, name) for name in typed}
    for name, override in typed.items():
        value = override.value()
        reason = FIXED.get(name) or FIXED.get(name.split(".")[0])
        if reason is not None and value != before[name]:
            raise ValueError(
                f"{name}={value} cannot be changed on a resume: {reason}"
                f"{'' if before[name] is None else f' ({name}={before[name]})'}."
            )
        if not (is_read(cfg, name) if override.is_add() else has_option(cfg, name)):
            hint = f", or add it with +{name}=..." if is_read(cfg, name) else "."
            raise ValueError(
                f"{name!r} is not in the run's configuration {checkpoint / 'config.yaml'}. Look it "
                f"up there{hint}"
            )
        OmegaConf.update(cfg, name, value, force_add=True)
    for name in DERIVED.keys() & typed.keys():
        _derive(cfg, name, before[name], typed)
    return with_new_targets(cfg), choices


def _derive(cfg: DictConfig, name: str, before: Any, typed: dict[str, Any]) -> None:
    """Change what follows an option, unless it was given a value of its own."""
    followers = [leaf for leaf in DERIVED[name] if OmegaConf.select(cfg, leaf) == before]
    if not followers and not any(leaf in typed for leaf in DERIVED[name]):
        raise ValueError(
            f"{name} has no effect in this run: {', '.join(DERIVED[name])} had values of their "
            "own. Change those instead."
        )
    for leaf in followers:
        if leaf not in typed:
            OmegaConf.update(cfg, leaf, cfg[name])


def new_target(target: Any) -> Any:
    """Return today's path of a class; what did not move is returned as it is."""
    return MOVED.get(target, target) if isinstance(target, str) else target


def with_new_targets(cfg: DictConfig) -> DictConfig:
    """Return a configuration whose every `_target_` names a class by today's path.

    Args:
        cfg: as stored or as typed; it is not changed. Interpolations stay unresolved.

    Returns:
        `cfg` itself where nothing has moved, else a copy.
    """
    old = OmegaConf.to_container(cfg, resolve=False)
    new = _renamed(old)
    if new == old:
        return cfg
    copy = OmegaConf.create(new)
    OmegaConf.set_struct(copy, OmegaConf.is_struct(cfg))
    return copy


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: new_target(item) if key == "_target_" else _renamed(item)
            for key, item in value.items()
        }
    return [_renamed(item) for item in value] if isinstance(value, list) else value
