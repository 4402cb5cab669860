"""A loop over time: its results put together, its weight gradients of all steps at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mario_dreamer.networks.frozen import frozen
from mario_dreamer.networks.regions import are_compiled, compiled_regions
from mario_dreamer.precision import active_dtype, autocast


@contextlib.contextmanager
def weight_gradients_at_once(
    modules: Sequence[nn.Module],
    again: Callable[[], Sequence[Tensor]],
    shapes: Sequence[Sequence[int]],
    like: Tensor,
) -> Iterator[tuple[Tensor, ...]]:
    """Where regions are compiled: T steps of a loop send one gradient to their weights, not T.

    Within it the modules' weights are constants, and each step adds its slice of the zeros that
    it yields to its results y. In the backward pass the zeros receive dL/dy of every step; the
    steps are computed again, all at once from constant inputs x, and the weights learn from them:

        dL/dW = sum_t (dy_t/dW)^T dL/dy_t,    y_t = step(x_t; W)

    This is one product of T * B rows instead of T products of B rows and T additions.

    Args:
        modules: whose weights the steps use. Random numbers and running statistics in them would
            make the steps differ when they are computed again.
        again: computes y of all steps, each [B * T, ...].
        shapes: of y in the loop, each [B, T, ...].
        like: of the type and device of y.

    Yields:
        zeros of each shape; nothing where regions are not compiled.
    """
    weights = [w for module in modules for w in module.parameters() if w.requires_grad]
    if not (weights and are_compiled() and torch.is_grad_enabled()):
        yield ()
        return
    zeros = _Steps.apply(again, shapes, like.detach(), *weights)
    with frozen(*modules):
        yield zeros


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Parts [t, B, ...] of a sequence as [B, T, ...]; each gets a gradient that lies in one piece."""
    rows = torch.cat(parts)
    if rows.requires_grad:
        rows.register_hook(Tensor.contiguous)
    return rows.transpose(0, 1).contiguous()


class _Steps(torch.autograd.Function):
    """Zeros that stand for the weights in every step."""

    @staticmethod
    def forward(
        ctx: Any,
        again: Callable[[], Sequence[Tensor]],
        shapes: Sequence[Sequence[int]],
        like: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.again, ctx.weights = again, weights
        ctx.device, ctx.dtype = like.device, active_dtype(like.device)
        return tuple(like.new_zeros(shape) for shape in shapes)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # A GPU's backward pass runs in a thread of its own, with neither autocast nor compiler.
        with torch.enable_grad(), autocast(ctx.device, ctx.dtype), compiled_regions():
            outputs = ctx.again()
        rows = [grad.flatten(0, 1) for grad in grads]
        found = torch.autograd.grad(outputs, ctx.weights, rows, allow_unused=True)
        return None, None, None, *found
