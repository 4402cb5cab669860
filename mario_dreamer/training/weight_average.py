"""The averaged weights that evaluation plays with."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class WeightAverage(nn.ModuleDict):
    """A running average of modules' weights.

        average <- average + r * (weights - average),  r = max(rate, 10 / (n + 9))

    n counts the updates from 1, so that the average of a short run has forgotten the first
    weights. Nothing here waits for a number of the device.

    Args:
        modules: by name; they are copied.
        rate: the smallest share of the weights of now, in (0, 1].
    """

    count: Tensor  # n, on the device: a recorded graph cannot read the host's

    def __init__(self, modules: dict[str, nn.Module], rate: float) -> None:
        super().__init__(copy.deepcopy(nn.ModuleDict(modules)))
        self.requires_grad_(False)
        self.rate = rate
        device = next(self.parameters()).device
        self.register_buffer("count", torch.zeros((), device=device), persistent=False)

    @torch.no_grad()
    def follow(self, modules: Iterable[nn.Module]) -> None:
        """Move one step towards the weights of the modules, in the order of the copies."""
        now = [parameter for module in modules for parameter in module.parameters()]
        average = list(self.parameters())
        rate = (10 / (self.count.add_(1) + 9)).clamp(min=self.rate)
        change = torch._foreach_sub(now, average)
        torch._foreach_mul_(change, rate)
        torch._foreach_add_(average, change)
