"""Estimate what a run needs of memory, before anything large is allocated."""

from __future__ import annotations

import contextlib
import math
import shutil
from pathlib import Path

import psutil
import torch
from omegaconf import DictConfig
from torch import nn
from torchrl.envs import EnvBase

from mario_dreamer import keys
from mario_dreamer.config import build
from mario_dreamer.replay.make import FILES
from mario_dreamer.training.acceleration import resolve_device

GIB = 2**30


def check_memory(
    cfg: DictConfig, env: EnvBase, processes: int = 1, folder: Path = Path("runs")
) -> str:
    """Compare the bytes of replay and networks with what is free; return one line about it.

        record    H * W * C of a frame, 4 V of a vector, A, reward 4, flags 3, stream 8, latents
        replay    records * record, twice in the machine's memory: a save copies it
        networks  16 for each weight: the weight, its gradient and the optimiser's two means

    Activations are not counted: what an update keeps for its backward pass comes on top.

    Args:
        processes: how many such runs share the machine's memory; each has a GPU of its own.
        folder: of a replay in files where `replay.path` names none.

    Raises:
        ValueError: it does not fit, or networks of these sizes cannot be built.
    """
    shapes, action_dim = build.shapes_of(env)  # first: a spec that is made on `meta` would stay there
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):  # sizes without numbers
            agent = build.make_agent(cfg, env)
    except (RuntimeError, OverflowError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ValueError(
            f"networks of these sizes cannot be built ({reason}). Lower size.*"
        ) from error
    record = sum(math.prod(s) * (1 if keys.is_image(key) else 4) for key, s in shapes.items())
    record += action_dim + 4 + 3 + 8
    if cfg.replay.get("latents"):
        rssm = agent.world_model.rssm
        record += 2 * rssm.deter_dim + rssm.stoch_shape[0]
    networks = 16 * sum(param.numel() for param in nn.ModuleDict(vars(agent)).parameters())
    device, capacity = resolve_device(cfg.device), cfg.replay.get("capacity") or 0
    played = min(capacity, cfg.steps + cfg.steps // 10)
    if device.type == "cuda":  # allocated at once
        name, free, records = "GPU memory", torch.cuda.mem_get_info(device)[0], capacity
    else:  # as records come, an episode one more than its steps; a save copies them
        name, free = "memory", _free_memory() // processes
        records = 2 * played
    replay = records * record
    if cfg.replay.get("storage") in FILES:
        replay, copied = 0, record  # by a save, to the same disk and not compressed
        if cfg.replay.storage == "compressed":
            images = [math.prod(shape) for key, shape in shapes.items() if keys.is_image(key)]
            record += len(images) * cfg.replay.slot_bytes - sum(images)
        _check_disk(Path(cfg.replay.get("path") or folder), processes * played * (record + copied))
    line = (
        f"{name}: about {(replay + networks) / GIB:.2f} GiB and the activations, of "
        f"{free / GIB:.2f} free (replay {replay / GIB:.2f}, networks and optimiser {networks / GIB:.2f})"
    )
    if replay + networks > free:
        cure = f"replay.capacity (now {capacity:,})" if replay > networks else "size.*"
        raise ValueError(f"this run does not fit. {line}. Lower {cure}, or choose replay=memmap.")
    return line


def _check_disk(folder: Path, needed: int) -> None:
    """Refuse a replay in files that the disk has no room for: to write beyond ends the process."""
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    # What this run wrote before a resume makes room; several processes have a folder each.
    files = [f.stat() for name in ("*.memmap", "process_*/*.memmap") for f in folder.glob(name)]
    held = sum(512 * file.st_blocks if hasattr(file, "st_blocks") else file.st_size for file in files)
    free = shutil.disk_usage(place).free + held
    if needed > free:
        raise ValueError(
            f"this run does not fit: its replay takes {needed / GIB:.1f} GiB in {folder} while it is "
            f"saved, where {free / GIB:.1f} are free. Lower replay.capacity, or set replay.path."
        )


def _free_memory() -> int:
    """Free bytes of this machine, or of the container where it may take less."""
    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # no control group; "max" where it has no limit
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text("utf-8")))
    return free
