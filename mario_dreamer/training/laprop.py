"""LaProp: normalise the gradient first, then take momentum."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class LaProp(torch.optim.Optimizer):
    """LaProp: normalise the gradient first, then take momentum.

    Paper: arXiv:2301.04104, "Optimizer" (LaProp: Ziyin et al., 2020).

        n <- beta2 * n + (1 - beta2) * g^2
        u  = g / (sqrt(n / (1 - beta2^k)) + eps)
        m <- beta1 * m + (1 - beta1) * u
        w <- w - lr * m / (1 - beta1^k)          k = 1, 2, ... the update's number

    Without warm-up, the first step moves every weight by exactly lr * sign(g).

    Args:
        params: parameters or parameter groups.
        lr: learning rate; a 0-dim tensor may be written into while a CUDA graph replays.
        betas: beta1 for the momentum, beta2 for the gradient's size.
        eps: added to the root.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 4e-5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-20,
    ) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps))
        self._split: dict[int, tuple[list[int], list[list[Tensor]]]] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over another state; torch calls this for `load_state_dict` too."""
        super().__setstate__(state)
        self._split = {}

    def _state(self, param: Tensor) -> dict[str, Tensor]:
        state = self.state[param]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=param.device)
            state["exp_avg"] = torch.zeros_like(param)
            state["exp_avg_sq"] = torch.zeros_like(param)
        return state

    def _peers(self, number: int, params: list[Tensor]) -> list[list[Tensor]]:
        """Split a group's parameters by the steps they have taken: some may have joined later.

        Counts are read, from the device, only where others have gradients than last time.
        """
        ids = [id(param) for param in params]
        if number not in self._split or self._split[number][0] != ids:
            peers = defaultdict(list)
            for param in params:
                state = self.state[param]  # of a new one there is none, and nothing is read
                peers[float(state["step"]) if state else 0.0].append(param)
            self._split[number] = (ids, list(peers.values()))
        return self._split[number][1]

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Take one step along the gradients at hand; parameters without one stay.

        Args:
            closure: computes the gradients first; its loss is returned.
        """
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for number, group in enumerate(self.param_groups):
            params = [param for param in group["params"] if param.grad is not None]
            for peers in self._peers(number, params):
                self._move(group, peers)
        return loss

    def _move(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """Take a step with parameters that have taken equally many."""
        grads = [param.grad for param in params]
        states = [self._state(param) for param in params]
        steps = [state["step"] for state in states]
        sizes = [state["exp_avg_sq"] for state in states]
        momenta = [state["exp_avg"] for state in states]
        beta1, beta2 = group["betas"]
        torch._foreach_add_(steps, 1.0)
        step = steps[0]
        torch._foreach_lerp_(sizes, torch._foreach_mul(grads, grads), 1 - beta2)
        roots = torch._foreach_div(sizes, 1 - beta2**step)
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_lerp_(momenta, torch._foreach_div(grads, roots), 1 - beta1)
        moves = torch._foreach_mul(momenta, group["lr"] / (1 - beta1**step))
        torch._foreach_sub_(params, moves)
