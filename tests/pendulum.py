"""Pendulum as a TorchRL env: three numbers seen, one continuous action."""

from __future__ import annotations

from torchrl.envs import EnvBase, GymEnv, RenameTransform, SerialEnv, TransformedEnv

from mario_dreamer.envs.base import with_bookkeeping


def make_pendulum(num_envs: int = 1, seed: int = 0) -> EnvBase:
    """Make N pendulums; the action is in [-2, 2]."""
    envs = SerialEnv(num_envs, [lambda: GymEnv("Pendulum-v1")] * num_envs)
    envs.set_seed(seed)
    renamed = TransformedEnv(envs, RenameTransform(["observation"], ["vector"]))
    return with_bookkeeping(renamed)

