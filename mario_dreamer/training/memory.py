"""Will it fit? What a run will need of memory, and what there is, before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from tensordict import TensorDict
from torch import nn

from mario_dreamer import keys
from mario_dreamer.agent.distribution_module import DistributionModule
from mario_dreamer.agent.world_model import WorldModel

__all__ = [
    "Need", "available", "dream_bytes", "network_bytes", "record_bytes", "refuse_what_does_not_fit",
    "room_in_cgroup", "update_bytes",
]  # fmt: skip

GIB = 2**30
# Outputs of layers -> bytes kept until the backward pass: norms, activations and casts keep
# copies of their own. Fitted to benchmarks/results/update_cpu_202611.md.
KEPT = 2.0


@dataclass
class Need:
    """One thing that takes memory.

    Args:
        what: for people.
        size: bytes.
        cure: which number to lower.
        gpu: it lies on the GPU.
    """

    what: str
    size: float
    cure: str
    gpu: bool = False


def record_bytes(
    shapes: Mapping[str, Sequence[int]], action_dim: int, latents: tuple[int, int] | None = None
) -> int:
    """Bytes of one record in replay.

        frame H * W * C, sensors 4 V, action A, reward 4, three flags 3, stream 8, latents 2 D + S

    Args:
        shapes: of one observation by key, `pixels` as bytes, anything else as float32.
        action_dim: A.
        latents: (D, S) where they are stored.
    """
    seen = sum(math.prod(shape) * (1 if keys.is_image(key) else 4) for key, shape in shapes.items())
    deter, stoch = latents or (0, 0)
    return seen + action_dim + 4 + 3 + 8 + 2 * deter + stoch


def network_bytes(world_model: nn.Module, actor: nn.Module, critic: nn.Module) -> int:
    """Bytes of weights, gradients and two running means each, and of the slow critic."""
    count = sum(p.numel() for module in (world_model, actor, critic) for p in module.parameters())
    return 4 * (4 * count + sum(p.numel() for p in critic.parameters()))


def _outputs(run: nn.Module, *inputs: object) -> int:
    """Numbers that the innermost modules put out in one call."""
    counts: list[int] = []

    def note(module: nn.Module, args: object, out: object) -> None:
        if isinstance(out, torch.Tensor):
            counts.append(out.numel())

    inner = [module for module in run.modules() if not any(module.children())]
    hooks = [module.register_forward_hook(note) for module in inner]
    with torch.no_grad():
        run(*inputs)
    for hook in hooks:
        hook.remove()
    return sum(counts)


def update_bytes(
    world_model: WorldModel, shapes: Mapping[str, Sequence[int]], action_dim: int, short: bool
) -> float:
    """Bytes that one record keeps until the backward pass, roughly.

    Args:
        world_model: on any device; "meta" takes no memory for the answer.
        shapes: of one observation by key.
        action_dim: A.
        short: networks compute in two bytes instead of four.
    """
    device = next(world_model.parameters()).device
    dtypes = {key: torch.uint8 if keys.is_image(key) else torch.float32 for key in shapes}
    record = {
        key: torch.zeros(1, 1, *shape, dtype=dtypes[key], device=device)
        for key, shape in shapes.items()
    }
    record[keys.PREV_ACTION] = torch.zeros(1, 1, action_dim, device=device)
    record[keys.IS_FIRST] = torch.zeros(1, 1, 1, dtype=torch.bool, device=device)
    records = TensorDict(record, [1, 1])
    count = _outputs(world_model, records)
    state = world_model(records).detach()
    for head in (*world_model.decoders.values(), world_model.reward, world_model.cont):
        count += _outputs(head, state)
    pictures = sum(math.prod(shape) for shape in shapes.values())  # float32 in and out
    return KEPT * count * (2 if short else 4) + 12.0 * pictures


def dream_bytes(
    world_model: WorldModel, actor: DistributionModule, critic: DistributionModule, short: bool
) -> float:
    """Bytes that one dreamed state keeps until the backward pass, roughly."""
    rssm = world_model.rssm
    device = next(world_model.parameters()).device
    feat = torch.zeros(1, rssm.feat_dim, device=device)
    heads = sum(_outputs(head.head, feat) for head in (actor, critic))
    return (KEPT * heads + rssm.feat_dim) * (2 if short else 4)


def room_in_cgroup(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Bytes that this process's control group may still take; None without a limit."""
    try:
        lines = [line.split(":", 2) for line in own.read_text("utf-8").splitlines()]
    except OSError:
        return None
    rooms = []
    for _, controllers, path in lines:
        version1 = "memory" in controllers.split(",")
        if controllers and not version1:
            continue
        base = root / "memory" if version1 else root
        names = ("limit_in_bytes", "usage_in_bytes") if version1 else ("max", "current")
        folder = base / path.strip("/")
        for place in [folder, *folder.parents]:
            if not place.is_relative_to(base):
                break
            try:
                files = (place / f"memory.{name}" for name in names)
                limit, used = (file.read_text("utf-8").strip() for file in files)
                stat = (place / "memory.stat").read_text("utf-8").split()
            except OSError:
                continue
            if limit.isdecimal() and int(limit) < 2**60:
                cached = dict(zip(stat[::2], stat[1::2], strict=False)).get("inactive_file", "0")
                rooms.append(max(0, int(limit) - int(used) + int(cached)))
    return min(rooms, default=None)


def available(device: torch.device) -> int:
    """Bytes that are free on a GPU, or in the machine's memory and this process's share of it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    room = room_in_cgroup()
    return free if room is None else min(free, room)


def refuse_what_does_not_fit(needs: Sequence[Need], free: int, gpu_free: int | None = None) -> str:
    """Compare what is needed with what there is; return one line about it.

    Args:
        needs: everything that takes memory.
        free, gpu_free: bytes of the machine's memory and of the GPU's.

    Raises:
        ValueError: naming the largest need and the number to lower.
    """
    told = []
    for name, gpu, room in (("memory", False, free), ("GPU memory", True, gpu_free)):
        here = [need for need in needs if need.gpu == gpu and need.size > 0]
        if not here:
            continue
        total = sum(need.size for need in here)
        parts = ", ".join(f"{need.what} {need.size / GIB:.2f}" for need in here)
        line = f"{name}: about {total / GIB:.2f} GiB of {(room or 0) / GIB:.2f} free ({parts})"
        if total > (room or 0):
            largest = max(here, key=lambda need: need.size)
            raise ValueError(f"this run does not fit. {line}. Lower {largest.cure}.")
        told.append(line)
    return "; ".join(told)
