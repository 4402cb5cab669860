"""Let gradients pass through modules whose parameters are not to learn from them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Within it, what the modules compute carries gradients to its inputs, to no parameter.

    Nothing happens where gradients are off.
    """
    learned = [p for module in modules for p in module.parameters() if p.requires_grad]
    if not torch.is_grad_enabled():
        learned = []
    for param in learned:
        param.requires_grad_(False)
    try:
        yield
    finally:
        for param in learned:
            param.requires_grad_(True)
