"""The optimiser: clip each gradient, warm up, step. LaProp for Nature, Adam for the seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mario_dreamer.training.laprop import LaProp


@torch.no_grad()
def adaptive_clip_(
    grads: list[Tensor], params: list[Tensor], clip: float = 0.3
) -> tuple[Tensor, Tensor]:
    """Keep each tensor's gradient small relative to the tensor itself (AGC), in place.

    Paper: arXiv:2301.04104, "Optimizer".

        g <- g / max(1, |g| / (clip * max(1e-3, |w|)))      |.| the norm of the whole tensor

    Args:
        grads: gradients, changed in place.
        params: the tensors they belong to, same order.
        clip: largest allowed |g| / |w|, above 0.

    Returns:
        the global gradient norm before clipping, and the number of tensors clipped, both 0-dim.
    """
    grad_norms = torch.stack(torch._foreach_norm(grads))
    limits = clip * torch.stack(torch._foreach_norm(params)).clamp_min(1e-3)
    scales = 1.0 / (grad_norms / limits).clamp_min(1.0)
    torch._foreach_mul_(grads, list(scales.unbind()))
    return torch.linalg.vector_norm(grad_norms), (scales < 1).sum()


@torch.no_grad()
def norm_clip_(
    grads: list[Tensor], params: list[Tensor], clip: float = 1000.0
) -> tuple[Tensor, Tensor]:
    """Scale all gradients together so that their global norm is at most `clip`, in place.

    It is called as `adaptive_clip_` is and returns the same; `params` are not used.
    """
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    torch._foreach_mul_(grads, (clip / (norm + 1e-6)).clamp_max(1.0))
    return norm, (norm > clip) * len(grads)


class ClippedOptimizer:
    """Clip, warm up and step the parameters of the whole agent, group by group.

    Paper: arXiv:2301.04104, "Optimizer": one optimiser for everything; the paper's first version
    and the seed have three groups with learning rates and clipping of their own.

        lr_k = lr * min(1, k / warmup)        k = 0, 1, ... updates done so far

    Args:
        modules: group name -> the module whose parameters it holds.
        optimizer: builds the optimiser from the parameter groups.
        lr: learning rate of all groups, or group name -> learning rate.
        agc: largest |g| / |w| for each tensor; None turns it off.
        clip_norm: largest global norm, of all groups or by group name; None turns it off.
        eps: group name -> eps, where groups differ.
        warmup: number of updates until the learning rate is whole; 0 for none.

    Attributes:
        optimizer: the torch optimiser.

    Raises:
        ValueError: when a group has no parameters, or a group is named that does not exist.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        optimizer: Callable[..., torch.optim.Optimizer] = LaProp,
        lr: float | Mapping[str, float] = 4e-5,
        agc: float | None = 0.3,
        clip_norm: float | Mapping[str, float] | None = None,
        eps: Mapping[str, float] | None = None,
        warmup: int = 1000,
    ) -> None:
        lr, clip_norm, eps = (
            option if isinstance(option, Mapping) else dict.fromkeys(modules, option)
            for option in (lr, clip_norm, eps)
        )
        for option, value in (("lr", lr), ("clip_norm", clip_norm), ("eps", eps)):
            if set(value) != set(modules):
                raise ValueError(
                    f"optimizer.{option} names the groups {sorted(value)}; this agent's groups "
                    f"are {sorted(modules)}. Give one number, or one for each group."
                )
        self.warmup = warmup
        self.base_lr, groups, self._clips = {}, [], {}
        for name, module in modules.items():
            params = [param for param in module.parameters() if param.requires_grad]
            if not params:
                raise ValueError(f"optimizer: the group {name!r} has no parameters to train.")
            self.base_lr[name] = lr[name]
            groups.append({"params": params, "lr": float(self.base_lr[name]), "name": name})
            if params[0].is_cuda:
                # Both on the device, so that a captured graph reads those of today: the learning
                # rate, and with `capturable` torch's count of updates.
                rate = torch.tensor(groups[-1]["lr"], device=params[0].device)
                groups[-1] |= {"lr": rate, "capturable": True}
                if getattr(optimizer, "func", optimizer) is torch.optim.Adam:
                    groups[-1] |= {"foreach": False, "fused": True}  # a kernel a group
            if eps[name] is not None:
                groups[-1]["eps"] = eps[name]
            limits = ((adaptive_clip_, agc), (norm_clip_, clip_norm[name]))
            self._clips[name] = [partial(f, clip=limit) for f, limit in limits if limit is not None]
        self.optimizer = optimizer(groups)
        self._rows: dict[tuple[int, ...], tuple[Tensor, list[Tensor]]] = {}  # by ids of parameters
        self.updates = torch.zeros((), dtype=torch.float32, device=params[0].device)

    @torch.no_grad()
    def step(self) -> dict[str, Tensor]:
        """Clip, set the learning rate, step.

        Returns:
            0-dim each: `lr` of the first group; where gradients are clipped also the norms before
            it, `grad_norm_<group>` and `grad_norm` of all, and `clipped`, the share of tensors.
        """
        learned = self.updates if self.warmup else torch.ones_like(self.updates)
        share = (learned / max(self.warmup, 1)).clamp_max(1.0)
        metrics: dict[str, Tensor] = {"lr": share * self.base_lr[next(iter(self.base_lr))]}
        norms, clipped, tensors = {}, [], 0
        for group in self.optimizer.param_groups:
            rate = share * self.base_lr[group["name"]]
            if isinstance(group["lr"], Tensor):
                group["lr"].copy_(rate)
            else:
                group["lr"] = float(rate)
            params = [param for param in group["params"] if param.grad is not None]
            grads = [param.grad for param in params]
            found = [clip(grads, params) for clip in self._clips[group["name"]] if grads]
            if found:
                norms[f"grad_norm_{group['name']}"] = found[0][0]
                clipped.append(torch.stack([count for _, count in found]).amax())
                tensors += len(grads)
        self.optimizer.step()
        self.updates.add_(1)
        if norms:
            metrics["grad_norm"] = torch.linalg.vector_norm(torch.stack(list(norms.values())))
            metrics["clipped"] = torch.stack(clipped).sum() / tensors
        return metrics | norms

    def parameters(self) -> Iterator[Tensor]:
        """Go through everything it trains, group by group."""
        for group in self.optimizer.param_groups:
            yield from group["params"]

    @torch.no_grad()
    def row(self) -> Tensor:
        """Lay all gradients in one float32 vector, of which they are parts from then on; return it.

        It is the same vector at every call where the same parameters have gradients, one at least,
        so that a CUDA graph may record what is done with it. Up to 3 zeros between them let each
        begin at 16 bytes, as torch's fastest kernels want it.
        """
        params = [param for param in self.parameters() if param.grad is not None]
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

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Everything a bit-equal resume needs."""
        return {"optimizer": self.optimizer.state_dict(), "updates": self.updates.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` returned, here or on another kind of device.

        Learning rates stay the objects they are, floats on a CPU and tensors on a GPU.
        """
        groups, saved = self.optimizer.param_groups, dict(state["optimizer"])
        rates = [group["lr"] for group in groups]
        # By `capturable` torch puts the count of updates on the parameters' device or not; a GPU
        # takes another of Adam's loops. Where the optimiser knows no such word, a resume adds
        # none: states stay bit-equal.
        words = ("capturable", "foreach", "fused")
        here = {key: value for key, value in groups[0].items() if key in words}
        saved["param_groups"] = [
            {**{key: group[key] for key in group if key not in words}, **here}
            for group in saved["param_groups"]
        ]
        self.optimizer.load_state_dict(saved)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            now = group["lr"]
            on_device = isinstance(rate, Tensor)
            group["lr"] = rate.copy_(torch.as_tensor(now)) if on_device else float(now)
        self.updates.copy_(state["updates"])
