"""Is an update right on a GPU? The checks of bench_gpu.py: the same numbers, and nothing waits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from bench_update import ACTIONS, fill
from torch import Tensor

from mario_dreamer.config import build
from mario_dreamer.config.compose import compose_default
from mario_dreamer.distributions.onehot import OneHotCategorical
from mario_dreamer.replay import Replay
from mario_dreamer.training.learner import Learner
from mario_dreamer.training.loop import learn

PRESETS = {
    "seed_v1": ["experiment=seed_v1"],
    "size12m": ["size=size12m"],
    "laptop": ["experiment=laptop", "imagination_starts=null", "~env.action_set"],
}
# Largest difference of a loss, relative, and smallest cosine of all gradients.
TOLERANCES = {"fp32": (1e-3, 0.9999), "bf16": (0.05, 0.95)}


def make(
    preset: str, sizes: list[str], device: str, precision: str, compile: str = "off"
) -> tuple[Learner, Replay]:
    """Build a learner with the weights of seed 0 and a replay of random records on its device."""
    changes = [
        *PRESETS[preset], *sizes, "env=counting", f"env.num_actions={ACTIONS}", "tracker=none",
        f"device={device}", f"precision={precision}", f"compile={compile}",
        "replay.capacity=16384", "collector.num_envs=8",
    ]  # fmt: skip
    cfg = compose_default(changes)
    build.seed_everything(0)
    learner = build.make_learner(cfg, build.make_agent(cfg, build.make_env(cfg, 1, 0)))
    replay = build.make_replay(cfg, learner.device)
    torch.manual_seed(1)
    fill(replay, 8, 4 * cfg.batch_size * cfg.batch_length, learner.world_model.rssm)
    return learner, replay


@contextlib.contextmanager
def same_draws(drawn: list[Tensor]) -> Iterator[None]:
    """Let every categorical draw what was drawn the first time, whatever was rounded since.

    Args:
        drawn: filled where it is empty, else drawn from.
    """
    sample, record, again = OneHotCategorical.sample, not drawn, iter(drawn)

    def draw(self: OneHotCategorical, *args: Any) -> Tensor:
        if record:
            drawn.append(sample(self, *args))
            return drawn[-1]
        return next(again).to(self.probs.device)

    with mock.patch.object(OneHotCategorical, "sample", draw):
        yield


def losses_and_gradients(
    learner: Learner, records: Any, drawn: list[Tensor] | None
) -> tuple[dict[str, float], Tensor]:
    """All loss terms of one batch, and all gradients in one vector on the CPU.

    Args:
        drawn: see `same_draws`; None draws again.
    """
    with contextlib.nullcontext() if drawn is None else same_draws(drawn):
        metrics = learner._forward_backward(records.to(learner.device))  # compiled where asked for
    gradients = [p.grad.flatten() for p in learner.optimizer.parameters() if p.grad is not None]
    found = torch.cat(gradients).double().cpu()
    learner.optimizer.zero_grad()
    terms = {k: float(v) for k, v in metrics.items() if k.startswith("loss_") or k == "total"}
    return terms, found


def check_precision(preset: str, sizes: list[str], device: str) -> list[dict]:
    """Compare one batch's losses and gradients with those of float32 on the CPU."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    reference, replay = make(preset, sizes, "cpu", "fp32")
    records = replay.sample()
    drawn: list[Tensor] = []
    expected, gradient = losses_and_gradients(reference, records, drawn)
    rows = []
    for precision, (most, least) in TOLERANCES.items():
        terms, found = losses_and_gradients(
            make(preset, sizes, device, precision)[0], records, drawn
        )
        off = max(abs(terms[k] - v) / max(abs(v), 1e-2) for k, v in expected.items())
        cosine = float(torch.cosine_similarity(found, gradient, dim=0))
        rows.append(
            {"check": f"{preset}: {precision} on {device} against fp32 on cpu",
             "found": f"losses within {off:.1e} (at most {most:.0e}), gradient cosine "
             f"{cosine:.5f} (at least {least})", "good": off <= most and cosine >= least}
        )  # fmt: skip
    torch.backends.cudnn.allow_tf32 = True
    return rows


def weights_after(preset: str, sizes: list[str], device: str, compile: str, count: int) -> Tensor:
    """All weights after some updates, in one vector on the CPU."""
    learner, replay = make(preset, sizes, device, "auto", compile)
    batches = [replay.sample() for _ in range(count)]
    torch.manual_seed(5)
    for batch in batches:
        learner.update(batch)
    return torch.cat([p.detach().flatten() for p in learner.optimizer.parameters()]).double().cpu()


def check_graph(preset: str, sizes: list[str], device: str, graph: str) -> dict:
    """Compare ten updates, five of them replayed, with ten plain ones."""
    plain, again, recorded = (
        weights_after(preset, sizes, device, mode, 10) for mode in ("off", "off", graph)
    )
    spread, off = (float((x - plain).norm() / plain.norm()) for x in (again, recorded))
    most = max(1e-6, 10 * spread)
    equal = "bit for bit" if torch.equal(plain, recorded) else f"within {off:.1e}"
    return {"check": f"{preset}: compile={graph} against plain, 10 updates",
            "found": f"{equal} (at most {most:.0e}; two plain runs differ by {spread:.0e})",
            "good": off <= most}  # fmt: skip


def check_compiled(preset: str, sizes: list[str], device: str) -> dict:
    """Compare one batch's losses and gradients, regions compiled, with those as written.

    In float32, where the same seed draws the same categories; rounding would flip some in bf16.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    results = []
    for mode in ("off", "on"):
        learner, replay = make(preset, sizes, device, "fp32", mode)
        torch.manual_seed(5)
        results.append(losses_and_gradients(learner, replay.sample(), None))
    torch.backends.cudnn.allow_tf32 = True
    (plain, expected), (compiled, found) = results
    off = abs(compiled["total"] - plain["total"]) / abs(plain["total"])
    cosine = float(torch.cosine_similarity(found, expected, dim=0))
    return {"check": f"{preset}: compile=on against plain, fp32, one batch",
            "found": f"loss within {off:.1e} (at most 1e-03), gradient cosine {cosine:.5f} "
            "(at least 0.999)", "good": off <= 1e-3 and cosine >= 0.999}  # fmt: skip


def check_no_wait(preset: str, sizes: list[str], device: str, graph: str) -> dict:
    """Draw, learn and write back while every wait for the device is an error."""
    learner, replay = make(preset, sizes, device, "auto", graph)
    for _ in range(8):
        learn(replay, learner)
    on_gpu = learner.device.type == "cuda"
    found = "nothing waited" if on_gpu else "not asked on a CPU"
    try:
        if on_gpu:
            torch.cuda.set_sync_debug_mode("error")
        for _ in range(3):
            learn(replay, learner)
    except RuntimeError as error:
        found = f"something waits: {str(error).splitlines()[0][:150]}"
    finally:
        if on_gpu:
            torch.cuda.set_sync_debug_mode("default")
    name = f"{preset}: compile={graph}, from drawing a batch to writing back"
    return {"check": name, "found": found, "good": not found.startswith("something")}
