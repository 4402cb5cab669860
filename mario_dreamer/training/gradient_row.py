"""All gradients in a row: one operator for all of them, not one each."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class GradientRow:
    """Lay gradients in one vector, of which they are parts from then on.

    The vector is the same at every call where the same parameters have gradients, so that a CUDA
    graph may record what is done with it.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[int, ...], tuple[Tensor, list[Tensor]]] = {}  # by ids of parameters

    @torch.no_grad()
    def __call__(self, parameters: Iterable[Tensor]) -> Tensor:
        """Return the gradients of those that have one, float32, with up to 3 zeros between them.

        The zeros let each begin at 16 bytes, as torch's fastest kernels want it.

        Args:
            parameters: float32, all on one device, one at least with a gradient.
        """
        params = [param for param in parameters if param.grad is not None]
        of = tuple(id(param) for param in params)
        if of not in self._rows:
            sizes = [param.numel() + -param.numel() % 4 for param in params]
            row = torch.zeros(sum(sizes), device=params[0].device)
            self._rows[of] = row, [  # laid out as the parameter is, as the optimiser wants them
                part.as_strided(param.shape, param.stride(), part.storage_offset())
                for part, param in zip(row.split(sizes), params, strict=True)
            ]
        row, parts = self._rows[of]
        if any(param.grad is not part for param, part in zip(params, parts, strict=True)):
            torch._foreach_copy_(parts, [param.grad for param in params])  # a few kernels
            for param, part in zip(params, parts, strict=True):
                param.grad = part
        return row
