"""Will this run fit? Asked once, after the worlds are there and before anything large is."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch._subclasses.fake_tensor import FakeTensorMode
from torchrl.envs import EnvBase

from mario_dreamer.config import build
from mario_dreamer.replay.make import FILES
from mario_dreamer.training.acceleration import autocast_dtype, resolve_device
from mario_dreamer.training.memory import (
    GIB,
    Need,
    available,
    dream_bytes,
    network_bytes,
    record_bytes,
    refuse_what_does_not_fit,
    update_bytes,
)

__all__ = ["check_memory", "needs_of"]


def _networks(cfg: DictConfig, env: EnvBase) -> build.Agent:
    """The agent without its memory: every size is there, no number is."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            agent = build.make_agent(cfg, env)
        with FakeTensorMode(allow_non_fake_inputs=True):
            for module in (agent.world_model, agent.actor, agent.critic):
                module.to_empty(device="cpu")
    except (RuntimeError, OverflowError, MemoryError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ValueError(
            f"networks of these sizes cannot be built ({reason}). Look at size.*, encoder, "
            "decoder and the heads; size=debug is small."
        ) from error
    return agent


def needs_of(cfg: DictConfig, env: EnvBase) -> list[Need]:
    """Estimate what a run takes, in bytes; nothing large is allocated for it.

    Args:
        cfg: the run's configuration.
        env: its worlds.

    Raises:
        ValueError: the networks cannot be built in these sizes.
    """
    device = resolve_device(cfg.device)
    gpu, in_files = device.type == "cuda", cfg.replay.storage in FILES
    shapes, action_dim = build.shapes_of(env)
    agent = _networks(cfg, env)
    parts = (agent.world_model, agent.actor, agent.critic)
    rssm = agent.world_model.rssm
    latents = (rssm.deter_dim, rssm.stoch_shape[0]) if cfg.replay.latents else None
    record = record_bytes(shapes, action_dim, latents)
    # Memory is touched as records come; one more of them for each episode.
    filled = min(cfg.replay.capacity, cfg.steps + cfg.steps // 10)
    short = autocast_dtype(cfg.precision, device) is not None
    with FakeTensorMode(allow_non_fake_inputs=True):
        update = update_bytes(agent.world_model, shapes, action_dim, short)
        dream = dream_bytes(*parts, short)
    starts = cfg.batch_size * min(cfg.batch_length, cfg.imagination_starts or cfg.batch_length)
    batch = cfg.batch_size * cfg.batch_length * update + starts * (cfg.imag_horizon + 1) * dream
    smaller = f"batch_size (now {cfg.batch_size}) or batch_length (now {cfg.batch_length})"
    less = f"replay.capacity (now {cfg.replay.capacity:,})"
    replay = Need("replay", 0 if in_files else record * (cfg.replay.capacity if gpu else filled),
                  less if gpu else f"{less}, or choose replay=memmap or replay=compressed", gpu)  # fmt: skip
    update_need = Need("an update", batch, smaller, gpu)
    copy = Need("a copy of replay while saving", 0 if in_files else record * filled, less)
    # On one device a save and an update never happen at once: the larger counts.
    both = [update_need, copy] if gpu else [max(update_need, copy, key=lambda need: need.size)]
    size = Need("networks and optimiser", network_bytes(*parts), "size.* (or size=size12m)", gpu)
    return [replay, size, *both]


def check_memory(cfg: DictConfig, env: EnvBase, folder: Path, processes: int = 1) -> str:
    """Estimate what a run takes and compare it with what is free; return one line about it.

    Args:
        cfg: the run's configuration.
        env: its worlds.
        folder: the run's folder, which exists.
        processes: how many of this size share the machine's memory; each has a GPU of its own.

    Raises:
        ValueError: it does not fit; the message names the number to lower.
    """
    device = resolve_device(cfg.device)
    gpu_free = available(device) if device.type == "cuda" else None
    needs = needs_of(cfg, env)
    line = refuse_what_does_not_fit(needs, available(torch.device("cpu")) // processes, gpu_free)
    record = record_bytes(build.shapes_of(env)[0], env.action_spec.shape[-1])
    filled = record * min(cfg.replay.capacity, cfg.steps + cfg.steps // 10)
    disk = filled * (cfg.keep_checkpoints + 1 + (cfg.replay.storage in FILES))
    free = shutil.disk_usage(folder).free
    if disk > free:
        line += (
            f"; disk: checkpoints will grow to about {disk / GIB:.1f} GiB, "
            f"{free / GIB:.1f} are free in {folder} (lower replay.capacity or keep_checkpoints)"
        )
    return line
