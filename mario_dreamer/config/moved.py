"""Old class paths in stored configurations, and where those classes are now."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

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
    if not isinstance(cfg, DictConfig):
        return cfg
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
