"""Save the envs of a run in mid-episode, and put freshly built ones back there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tensordict import TensorDict, TensorDictBase
from torchrl.envs import EnvBase, TransformedEnv

from mario_dreamer.envs.torchrl import innermost

# TorchRL's collector keeps the TensorDict that its next step starts from under this name only.
CARRIER = "_carrier"


def env_state(
    env: EnvBase, collector: Iterable[TensorDictBase], options: str = ""
) -> dict[str, Any]:
    """Return all that the next transition depends on, but for the policy and the global generators.

    That is the state of the envs themselves, and the TensorDict that the collector carries
    from one batch to the next: frame, is_init, the sums of `RewardSum` and `StepCounter`,
    h_t, z_t and the last action. Where the envs cannot be saved, the key `restarted` says why: a
    resumed run then opens new episodes.

    Args:
        env: what the TorchRL collector steps, transforms and all.
        options: what the envs were made with, to compare on a restore.
    """
    base = innermost(env)
    carried = getattr(collector, CARRIER, None)
    if not _is_resumable(base):
        name = type(base).__name__
        return {"restarted": f"{name} cannot be saved in mid-episode (its class is not `resumable`)"}
    if carried is None:
        return {"restarted": "they are played in other processes"}
    return {
        "options": options,
        "env": base.state_dict(),
        "transforms": dict(env.state_dict()) if isinstance(env, TransformedEnv) else {},
        "carried": dict(carried.flatten_keys("/").cpu().clone().items()),
    }  # fmt: skip


def restore_env_state(
    state: dict[str, Any] | None,
    env: EnvBase,
    collector: Iterable[TensorDictBase],
    options: str = "",
) -> str | None:
    """Put freshly built envs where those of `env_state` were; return why not, where they cannot.

    Args:
        state: what it returned; None from a checkpoint that holds none.

    Raises:
        ValueError: the state is of another number of envs.
    """
    if not state:
        return "the checkpoint holds no envs"
    if "restarted" in state:
        return state["restarted"]
    # As checkpoints written before 2026-11-27 name them: "described" and "worlds".
    saved_options = state["options"] if "options" in state else state["described"]
    saved_env = state["env"] if "env" in state else state["worlds"]
    if _without_modules(saved_options) != _without_modules(options):
        return "the options of the envs have changed"
    base = innermost(env)
    carried: TensorDictBase | None = getattr(collector, CARRIER, None)
    if not _is_resumable(base) or carried is None:
        return f"{type(base).__name__} cannot be put back into mid-episode"
    seen = env.observation_spec.keys(True, True)
    names = {key if isinstance(key, str) else "/".join(key) for key in seen}
    missing = names - set(state["carried"])
    if missing:
        return f"the checkpoint was written by a version whose envs lack {sorted(missing)}"
    base.load_state_dict(saved_env)
    if state["transforms"]:
        env.load_state_dict(state["transforms"])
    saved = TensorDict(state["carried"], env.batch_size, device=carried.device)
    setattr(collector, CARRIER, saved.unflatten_keys("/"))
    return None


def _without_modules(options: str) -> str:
    """Options without the modules that classes are in: a class that moved is the same class."""
    return re.sub(r"\bmario_dreamer\.(\w+\.)+", "", options)


def _is_resumable(env: EnvBase) -> bool:
    """Whether its class says so: an env may pass questions on to others."""
    return bool(getattr(type(env), "resumable", False))
