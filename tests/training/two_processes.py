"""What one process of two finds out: test_distributed.py is the first and starts the second."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tiny import Tiny, make_tiny, random_records

from mario_dreamer.config import build
from mario_dreamer.distributions.onehot import OneHotCategorical
from mario_dreamer.training.distributed import Processes, join


def learner(tiny: Tiny, processes: Processes | None) -> build.Learner:
    """A learner with heads that begin at random, the same in every process."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in (tiny.agent.world_model, tiny.agent.actor, tiny.agent.critic):
            for param in module.parameters():
                param.copy_(0.1 * torch.randn(param.shape, generator=generator))
    return build.make_learner(tiny.cfg, tiny.agent, processes)


def gradients(learner: build.Learner, records: torch.Tensor) -> tuple[dict, dict, list]:
    """Averaged gradients, metrics and percentiles of one batch."""
    metrics = learner.forward_backward(records)
    metrics.pop("posterior")
    learner.processes.average_(learner.optimizer.row, metrics)
    grads = {
        f"{part}.{name}": param.grad.clone()
        for part, module in learner.modules.items()
        for name, param in module.named_parameters()
        if param.grad is not None
    }
    return grads, metrics, [buffer.clone() for buffer in learner.returns.norm.buffers()]


def compare(processes: Processes) -> dict[str, float]:
    """Hold a batch of 6 in two halves against the same batch in one process."""
    torch.manual_seed(1)
    whole = random_records(6, 5)
    half = whole[3 * processes.rank : 3 * processes.rank + 3]
    ours, metrics, percentiles = gradients(learner(make_tiny(), processes), half)
    alone, metrics_alone, percentiles_alone = gradients(learner(make_tiny(), None), whole)
    apart, _, _ = gradients(learner(make_tiny(), None), half)
    assert ours.keys() == alone.keys()

    def far(one: dict, other: dict) -> float:
        return max(float((one[k] - other[k]).abs().max()) for k in one)

    means = ("total", "loss_recon", "loss_actor", "loss_critic", "return_mean", "kl")
    return {
        "gradients": far(ours, alone),
        "without averaging": far(apart, alone),
        "size of gradients": max(float(grad.abs().max()) for grad in alone.values()),
        "percentiles": far(
            dict(enumerate(percentiles)), dict(enumerate(percentiles_alone))
        ),
        "metrics": max(abs(float(metrics[k] / metrics_alone[k]) - 1) for k in means),
    }


def updates(processes: Processes) -> dict[str, object]:
    """Take three updates with batches of its own; return a sum of all weights."""
    ours = learner(make_tiny(), processes)
    torch.manual_seed(processes.rank)
    with torch.no_grad():
        next(ours.actor.parameters()).add_(processes.rank)
    processes.broadcast_(ours.modules.state_dict().values())
    for _ in range(3):
        ours.update(random_records(3, 5))
    weights = torch.cat([v.double().flatten() for v in ours.modules.state_dict().values()])
    return {"weights": weights.sum().item().hex()}


def found_out() -> dict[str, object]:
    """Join the other process, and compare."""
    processes = join("cpu")
    found: dict[str, object] = {"members": processes.exchange(processes.rank)}
    found["any"] = [processes.any(processes.rank == 1), processes.any(False)]
    found["answer"] = processes.from_first(lambda: 7)
    try:
        processes.from_first(lambda: int("seven"))
    except (ValueError, SystemExit) as error:
        found["refusal"] = type(error).__name__
    found |= updates(processes)
    # No two draws are equal.
    with mock.patch.object(OneHotCategorical, "sample", lambda self, *_, **__: self.mode):
        found |= compare(processes)
    processes.close()
    return found


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(found_out()))
