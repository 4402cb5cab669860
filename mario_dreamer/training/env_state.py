"""Where the worlds of a run stand, in mid-episode, and how a resumed run plays on from there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tensordict import TensorDict, TensorDictBase
from torchrl.envs import EnvBase, TransformedEnv

__all__ = ["restore_worlds", "worlds_state"]

# TorchRL's collector keeps the TensorDict that its next step starts from under this name only.
CARRIER = "_carrier"


def worlds_state(
    env: EnvBase, collector: Iterable[TensorDictBase], described: str = ""
) -> dict[str, Any]:
    """Return all that the next transition depends on, but for the policy and global chances.

    That is the state of the worlds themselves, and the TensorDict that the collector carries
    from one batch to the next: frame, is_init, the sums of `RewardSum` and `StepCounter`,
    h_t, z_t and the last action.

    Args:
        env: what the collector steps, transforms and all.
        collector: a TorchRL `Collector`.
        described: the options the worlds were made with, to know them again.

    Returns:
        tensors and plain Python; with the key `restarted`, and the reason, where the worlds
        cannot tell: a resumed run then opens new episodes.
    """
    worlds = _innermost(env)
    carried = getattr(collector, CARRIER, None)
    if not _resumable(worlds):
        return {"restarted": f"{type(worlds).__name__} cannot be saved in mid-episode"}
    if carried is None:
        return {"restarted": f"{type(collector).__name__} does not show what it carries"}
    return {
        "described": described,
        "worlds": worlds.state_dict(),
        "transforms": dict(env.state_dict()) if isinstance(env, TransformedEnv) else {},
        "carried": {
            key: value.clone() for key, value in carried.flatten_keys("/").cpu().items()
        },
    }  # fmt: skip


def restore_worlds(
    state: dict[str, Any] | None,
    env: EnvBase,
    collector: Iterable[TensorDictBase],
    described: str = "",
) -> str | None:
    """Put freshly built worlds where `worlds_state` found theirs.

    Args:
        state: what it returned; None from a checkpoint that holds none.
        env, collector, described: as there.

    Returns:
        None, or why episodes begin again instead.

    Raises:
        ValueError: the state is of another number of worlds.
    """
    if not state:
        return "the checkpoint holds no worlds"
    if "restarted" in state:
        return state["restarted"]
    if _without_modules(state["described"]) != _without_modules(described):
        return "the options of the worlds have changed"
    worlds = _innermost(env)
    carried: TensorDictBase | None = getattr(collector, CARRIER, None)
    if not _resumable(worlds) or carried is None:
        return f"{type(worlds).__name__} cannot be put back into mid-episode"
    missing = set(env.observation_spec.keys(True, True)) - set(state["carried"])
    if missing:
        return f"the checkpoint was written by a version whose envs lack {sorted(missing)}"
    worlds.load_state_dict(state["worlds"])
    if state["transforms"]:
        env.load_state_dict(state["transforms"])
    saved = TensorDict(state["carried"], env.batch_size, device=carried.device)
    setattr(collector, CARRIER, saved.unflatten_keys("/"))
    return None


def _without_modules(described: str) -> str:
    """Options without the modules that classes are in: a class that moved is the same class."""
    return re.sub(r"\bmario_dreamer\.(\w+\.)+", "", described)


def _resumable(worlds: EnvBase) -> bool:
    """Whether they say so themselves; asked of the class, as some envs answer for others."""
    return bool(getattr(type(worlds), "resumable", False))


def _innermost(env: EnvBase) -> EnvBase:
    """The worlds below all transforms."""
    while isinstance(env, TransformedEnv):
        env = env.base_env
    return env
