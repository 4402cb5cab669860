"""The contract of the `env` slot: what a run needs of a TorchRL env, and what it adds itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchrl.envs import EnvBase, InitTracker, RewardSum, StepCounter, Transform, TransformedEnv

from mario_dreamer import keys
from mario_dreamer.envs.base import env_call
from mario_dreamer.envs.observations import ToObservations, sources_of


def with_agent_interface(
    env: EnvBase, image_size: int | Sequence[int] | None = 64, grayscale: bool = False
) -> EnvBase:
    """Add to a TorchRL env what a run needs and what it does not have yet.

    That is `ToObservations` unless it observes `pixels` and `vector` as the agent reads them, and
    `is_init`, `step_count` and `episode_reward`. Actions: see `with_agent_actions`.

    Args:
        env: of batch size [N].
        image_size, grayscale: see `ToObservations`.

    Raises:
        ValueError: what the run needs and the env cannot give, in one line.
    """
    if not isinstance(env, EnvBase):
        raise ValueError(f"env: expected a torchrl.envs.EnvBase, got {type(env).__name__}.")
    if env.ndim != 1:
        raise ValueError(
            f"env: expected batch size [N], got {list(env.batch_size)}. Put N of them into "
            "torchrl.envs.SerialEnv(N, make)."
        )
    if not _is_ready(env):
        env = env.append_transform(ToObservations(env, image_size, grayscale))
    counters = {"is_init": InitTracker, "step_count": StepCounter, "episode_reward": RewardSum}
    for key, counter in counters.items():
        if key not in env.observation_spec.keys():
            env = env.append_transform(counter())
    return env


def _is_ready(env: EnvBase) -> bool:
    """Whether the env observes uint8 [C, H, W] and float32 [V] under the agent's names.

    What such an env shows under other names is not learned from.
    """
    found = {key: spec for key, spec in sources_of(env).items() if keys.is_observation(key)}
    return all(
        (keys.is_image(key) and spec.dtype == torch.uint8 and len(spec.shape) == 3
         and spec.shape[0] <= min(spec.shape[1:]))
        or (keys.is_vector(key) and spec.dtype == torch.float32 and len(spec.shape) == 1)
        for key, spec in found.items()
    ) and bool(found)  # fmt: skip


def check_contract(env: EnvBase) -> None:
    """Play one step and compare it with what a run reads; the env is reset afterwards anyway.

    Raises:
        ValueError: what is missing or of another shape or type, in one line.
        EnvFailed: the env raised.
    """
    seen = {key: spec for key, spec in env.observation_spec.items() if keys.is_observation(key)}
    with torch.random.fork_rng(devices=[]):
        played = env_call(env.rand_step, env_call(env.reset))
    batch = list(env.batch_size)
    flags = {("next", key): ([*batch, 1], torch.bool) for key in ("done", "terminated")}
    wanted = {"is_init": ([*batch, 1], torch.bool), **flags}
    wanted[("next", keys.REWARD)] = ([*batch, 1], None)
    for key, spec in seen.items():
        wanted[key] = wanted[("next", key)] = (list(spec.shape), spec.dtype)
    for key, (shape, dtype) in wanted.items():
        value = played.get(key, None)
        moment = "step" if isinstance(key, tuple) else "reset"
        found = "nothing" if value is None else f"{list(value.shape)} {value.dtype}"
        if value is None or list(value.shape) != shape or dtype not in (None, value.dtype):
            raise ValueError(
                f"env: a {moment} gave {key!r} as {found}; a run needs {shape} {dtype or ''}. "
                "See the contract of the env slot in configs/README.md."
            )


def innermost(env: EnvBase) -> EnvBase:
    """Return the env below all transforms."""
    while isinstance(env, TransformedEnv):
        env = env.base_env
    return env


def transforms_of[T: Transform](env: EnvBase, kind: type[T]) -> list[T]:
    """Return the transforms of a kind around an env, the outermost env's first."""
    found: list[T] = []
    while isinstance(env, TransformedEnv):
        parts = getattr(env.transform, "transforms", [env.transform])
        found += [part for part in parts if isinstance(part, kind)]
        env = env.base_env
    return found


def describe_observations(env: EnvBase) -> str:
    """Return one line about what the agent learns from, and what that is made of."""
    sources: dict[str, tuple[str, tuple[int, ...], str]] = {}
    spec, batch = env.observation_spec, len(env.batch_size)
    for part in transforms_of(env, ToObservations):
        sources |= part.sources
    words = []
    for key in (key for key in spec.keys() if keys.is_observation(key)):
        made = ""
        if key in sources:
            name, raw, dtype = sources[key]
            made = f" from {'render()' if name == 'render' else name} {list(raw)} {dtype}"
        words.append(f"{key} {list(spec[key].shape[batch:])}{made}")
    return "observations: " + ", ".join(words)
