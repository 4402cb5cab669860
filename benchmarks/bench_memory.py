"""How much memory does an update need, and so what fits on which GPU? Nothing is computed.

    python benchmarks/bench_memory.py --out update_memory_202611

Each size takes an update of 16 x 64 records of 64 x 64 frames, as written and in bfloat16, with
tensors that have a shape and no numbers (torch's FakeTensorMode), while the bytes of all tensors
that are alive are counted. So it needs no GPU, and little memory. Replay is not counted; nor is
what a library or a CUDA graph takes besides.
"""

from __future__ import annotations

import argparse
import copy
import sys
import weakref
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from bench_update import ACTIONS, fill
from result_tables import write_rows
from run_script import run_script
from tensordict import TensorDict
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # runs from an uninstalled checkout too

from mario_dreamer.config import build
from mario_dreamer.config.compose import compose_default

SIZES = ("size1m", "size12m", "size25m", "size50m", "size100m", "size200m", "size400m")
GIB = 2**30


class Live(TorchDispatchMode):
    """Count the bytes of all tensors that are alive.

    Attributes:
        peak: the most at any moment.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def add(self, tensor: Tensor) -> None:
        """Count a tensor, unless it lies where a counted one does."""
        storage = tensor.untyped_storage()
        if storage not in self._seen:
            self._seen.add(storage)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._freed, storage.nbytes())

    def _freed(self, size: int) -> None:
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return out


def measure(size: str, words: list[str]) -> dict[str, Any]:
    """Take two updates of one size; the second has all of the optimiser's state."""
    cfg = compose_default([
        f"size={size}", "env=counting", f"env.num_actions={ACTIONS}", "env.image_size=64", "device=cpu",
        "precision=bf16", "tracker=none", "collector.num_envs=1", "replay.capacity=4000",
        "batch_size=16", "batch_length=64", *words,
    ])  # fmt: skip
    learner = build.make_learner(cfg, build.make_agent(cfg, build.make_env(cfg, 1, 0)))
    learner.finite.waits = False  # as on a GPU: no number is asked for
    replay = build.make_replay(cfg, learner.device)
    fill(replay, 1, 2 * cfg.batch_size * cfg.batch_length, learner.world_model.rssm)
    fake = FakeTensorMode(allow_non_fake_inputs=True)

    def as_fake(tensor: Tensor, memo: dict[int, Tensor]) -> Tensor:
        found = fake.from_tensor(tensor.detach(), static_shapes=True)
        live.add(found)
        weight = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(found, tensor.requires_grad) if weight else found
        return memo[id(tensor)]

    live = Live()
    with (
        mock.patch.object(nn.Parameter, "__deepcopy__", as_fake),
        mock.patch.object(Tensor, "__deepcopy__", as_fake),
    ):
        learner, records = copy.deepcopy((learner, replay.sample().to_dict()))
    records = TensorDict(records, [cfg.batch_size, cfg.batch_length])
    with fake, live:
        for group in learner.optimizer.optimizer.param_groups:
            group["lr"] = torch.tensor(group["lr"])
        for _ in range(2):
            learner.step(records)
    weights = sum(parameter.numel() for parameter in learner.optimizer.parameters())
    return {
        "size": size, "parameters": weights, "weights_gradients_moments_gib": 16 * weights / GIB,
        "update_gib": live.peak / GIB,
    }  # fmt: skip


def main() -> None:
    """Measure, print, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="files of configs/size")
    parser.add_argument("--out", help="name of the CSV in benchmarks/results")
    args, words = parser.parse_known_args()
    rows = []
    for size in args.sizes:
        rows.append(measure(size, words))
        print(", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()))
    if args.out:
        write_rows(ROOT / "benchmarks" / "results" / f"{args.out}.csv", rows)


if __name__ == "__main__":
    run_script(main)
