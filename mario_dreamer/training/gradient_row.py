"""All gradients in a row: one operator for all of them, not one each."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class GradientRow:
    """Lay gradients in one vector, of which they are parts from then on.

    The vector is the same at every call, as long as the same parameters have gradients, so that a
    CUDA graph may record what is done with it.
    """

    def __init__(self) -> None:
        self._of: list[int] = []  # ids of the parameters in it
        self._row, self._parts = torch.empty(0), [torch.empty(0)]

    @torch.no_grad()
    def __call__(self, parameters: Iterable[Tensor]) -> Tensor:
        """Return the gradients of those that have one, [number of weights], float32.

        Args:
            parameters: float32, all on one device; always in the same order.
        """
        params = [param for param in parameters if param.grad is not None]
        if self._of != [id(param) for param in params]:
            self._of = [id(param) for param in params]
            sizes = [param.numel() for param in params]
            self._row = torch.empty(sum(sizes), device=params[0].device)
            self._parts = [  # in the memory layout of the parameter, as the optimiser wants them
                part.as_strided(param.shape, param.stride(), part.storage_offset())
                for part, param in zip(self._row.split(sizes), params, strict=True)
            ]
        if any(param.grad is not part for param, part in zip(params, self._parts, strict=True)):
            torch._foreach_copy_(self._parts, [param.grad for param in params])  # a few kernels
            for param, part in zip(params, self._parts, strict=True):
                param.grad = part
        return self._row
