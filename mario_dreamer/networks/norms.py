"""Normalisation: RMSNorm (Nature) and LayerNorm (v1), over the last dimension or over channels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mario_dreamer.checks import has_functorch


class RMSNorm(nn.Module):
    """Divide a vector by its root mean square, statistics in float32.

        y = x / sqrt(mean(x^2) + eps) * weight

    Args:
        dim: length of the last dimension.
        eps: added to the mean square.
    """

    has_shift = False  # no shift of its own: the layer before keeps its bias

    def __init__(self, dim: int, eps: float = 1e-4) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim], the type of x."""
        if x.is_cuda or x.dtype == torch.float64 or has_functorch():
            # One fused kernel on a GPU; autocast would only widen its output.
            with torch.autocast("cuda" if x.is_cuda else x.device.type, enabled=False):
                return F.rms_norm(x, (self.dim,), self.weight.to(x.dtype), self.eps)
        return _RMSNormOnCPU.apply(x, self.weight, self.eps)


class _RMSNormOnCPU(torch.autograd.Function):
    """On CPU, autograd through F.rms_norm or its formula takes two to four times as long.

    LayerNorm has a fused backward kernel. With the mean given as 0, it gives our gradient but for
    one term, which it takes off for the mean and we put back.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = torch.rsqrt(norm.square() / x.shape[-1] + eps)  # [..., 1]
        ctx.save_for_backward(x, weight, scale)
        return x * scale.to(x.dtype) * weight.to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        dim = x.shape[-1]
        exact = x.dtype == torch.float32  # then torch's sums for the weight are good
        grad_x, grad_weight, _ = torch.ops.aten.native_layer_norm_backward(
            grad, x, [dim], torch.zeros_like(scale), scale, weight, None, [True, exact, False]
        )
        taken_off = (grad @ weight.to(grad.dtype)).unsqueeze(-1) * (scale / dim).to(grad.dtype)
        if not exact:
            (grad_weight,) = _sum_rows(scale.reshape(1, -1), grad * x)
        return grad_x + taken_off, grad_weight, None


def _sum_rows(shares: Tensor, rows: Tensor) -> Tensor:
    """Sum rows [..., dim] with the weights of shares [k, rows]: [k, dim], float32.

    As matrix products, whose sums are made in float32, of up to 256 parts, so that what they are
    rounded to is small. torch's own norms add up the gradients of weight and bias in bfloat16 on a
    CPU: from some hundred rows on, hardly anything is added any more.
    """
    count = shares.shape[1]
    parts = min(256, count & -count)  # a power of two that divides it
    shares = shares.to(rows.dtype).unflatten(1, (parts, -1)).transpose(0, 1)  # [parts, k, n]
    sums = shares @ rows.reshape(parts, -1, rows.shape[-1])  # [parts, k, dim]
    return sums.sum(0, dtype=torch.float32)


class LayerNorm(nn.Module):
    """Shift a vector to mean 0 and scale it to variance 1, statistics in float32.

        y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias

    Args:
        dim: length of the last dimension.
        eps: added to the variance.
    """

    has_shift = True  # so the layer before needs no bias

    def __init__(self, dim: int, eps: float = 1e-3) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim], the type of x."""
        if x.is_cuda:  # autocast would widen the output; the kernel wants one type
            with torch.autocast("cuda", enabled=False):
                weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
                return F.layer_norm(x, (self.dim,), weight, bias, self.eps)
        if x.dtype in (torch.float32, torch.float64) or has_functorch():
            return F.layer_norm(x, (self.dim,), self.weight, self.bias, self.eps)
        return _ShortLayerNormOnCPU.apply(x, self.weight, self.bias, self.eps)


class _ShortLayerNormOnCPU(torch.autograd.Function):
    """Layer norm of bfloat16 with gradients of weight and bias that are summed in float32.

    d weight = sum (grad * x) / std - sum grad * mean / std     over all rows
    d bias = sum grad
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        y, mean, scale = torch.native_layer_norm(x, [x.shape[-1]], weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, mean, scale)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, bias, mean, scale = ctx.saved_tensors
        grad_x, _, _ = torch.ops.aten.native_layer_norm_backward(
            grad, x, [x.shape[-1]], mean, scale, weight, bias, [True, False, False]
        )
        share = scale.reshape(1, -1)
        (with_x,) = _sum_rows(share, grad * x)
        shares = torch.cat([share * mean.reshape(1, -1), torch.ones_like(share)])
        with_mean, grad_bias = _sum_rows(shares, grad)
        return grad_x, with_x - with_mean, grad_bias, None


class ChannelNorm(nn.Module):
    """A norm over the channels of a map, at each pixel by itself.

    Args:
        norm: an `RMSNorm` or `LayerNorm` of as many channels.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]; no copy where x lies channels_last."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


_NORMS = {"rms": RMSNorm, "layer": LayerNorm}


def make_norm(norm: str, dim: int) -> nn.Module:
    """Build a norm over the last dimension by name: "rms" (Nature) or "layer" (v1).

    Raises:
        ValueError: unknown name.
    """
    if norm not in _NORMS:
        raise ValueError(f"norm must be 'rms' (Nature) or 'layer' (v1); got {norm!r}.")
    return _NORMS[norm](dim)
