"""A loss that is not a finite number: an error on a CPU, no gradients on a GPU."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from tensordict import TensorDictBase
from torch import Tensor

from mario_dreamer.training.optim import ClippedOptimizer


class NonFiniteLoss(RuntimeError):
    """A term of the loss is NaN or infinite; no gradient of it has reached a weight."""


class FiniteLoss:
    """Look at the loss between the backward pass and the optimiser's step.

    Args:
        optimizer: holds the gradients.
        device: where they are. A CPU raises at once. A GPU is not waited for: all gradients of the
            update become 0, so that momentum alone moves the weights, and `ask` raises when
            metrics are fetched.

    Attributes:
        waits: whether it raises at once.
        spoiled: GPU: how many losses were not finite since the last `ask`, 0-dim.
    """

    def __init__(self, optimizer: ClippedOptimizer, device: torch.device) -> None:
        self.optimizer, self.waits = optimizer, device.type == "cpu"
        self.spoiled = torch.zeros((), device=device)

    @torch.no_grad()
    def __call__(
        self, metrics: TensorDictBase, state: Iterable[tuple[Tensor, Tensor]], update: int
    ) -> None:
        """Let a finite loss pass; of another one, undo what the update has changed already.

        Args:
            metrics: with `total` and each `loss_*`, 0-dim.
            state: buffers that have changed, each with its values before; a GPU puts them back.
            update: its number, for the error.

        Raises:
            NonFiniteLoss: on a CPU.
        """
        if self.waits:
            self.ask(metrics, update)
            return
        good = torch.isfinite(metrics["total"])
        for now, before in state:
            now.copy_(torch.where(good, now, before))
        self.optimizer.row().masked_fill_(~good, 0)
        self.spoiled.add_((~good).float())

    def ask(self, metrics: TensorDictBase, update: int) -> None:
        """Raise NonFiniteLoss, naming the terms, when a loss was not a finite number."""
        if bool(torch.isfinite(metrics["total"])) and not bool(self.spoiled):
            return
        self.spoiled.zero_()
        terms = {name: float(metrics[name]) for name in metrics.keys() if name.startswith("loss_")}
        bad = [name for name, value in terms.items() if not math.isfinite(value)]
        raise NonFiniteLoss(
            f"update {update}: {', '.join(bad) or 'the total loss'} is not finite "
            f"({terms}). Lower the learning rate, or set precision=fp32 to rule out bf16."
        )
