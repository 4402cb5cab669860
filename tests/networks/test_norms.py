from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mario_dreamer.networks.norms import ChannelNorm, LayerNorm, RMSNorm, make_norm


def rms_formula(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-4).sqrt() * weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rms_norm_of_three_and_four(dtype: torch.dtype) -> None:
    norm = RMSNorm(2).to(dtype)
    x = torch.tensor([3.0, 4.0], dtype=dtype)  # mean square 12.5
    expected = x / (12.5 + 1e-4) ** 0.5
    torch.testing.assert_close(norm(x), expected)
    assert not norm.has_shift and [name for name, _ in norm.named_parameters()] == ["weight"]


def test_layer_norm_of_three_and_four() -> None:
    expected = torch.tensor([-0.5, 0.5]) / (0.25 + 1e-3) ** 0.5
    torch.testing.assert_close(LayerNorm(2)(torch.tensor([3.0, 4.0])), expected)
    assert LayerNorm(2).has_shift


@pytest.mark.parametrize("shape", [(7, 16), (2, 3, 5, 16), (16,)])
def test_rms_norm_has_the_gradients_of_its_formula(shape: tuple[int, ...]) -> None:
    norm, x = RMSNorm(16), (3 * torch.randn(shape)).requires_grad_()
    torch.nn.init.normal_(norm.weight)
    weights = torch.randn(shape)
    ours = torch.autograd.grad((norm(x) * weights).sum(), [x, norm.weight])
    expected = (rms_formula(x.double(), norm.weight.double()) * weights).sum()
    theirs = torch.autograd.grad(expected, [x, norm.weight])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other.float(), rtol=1e-4, atol=1e-5)


def test_rms_norm_of_zeros_is_zero_with_a_finite_gradient() -> None:
    x = torch.zeros(3, 8, requires_grad=True)
    y = RMSNorm(8)(x)
    y.sum().backward()
    assert (y == 0).all()
    torch.testing.assert_close(x.grad, torch.full((3, 8), 100.0))  # 1 / sqrt(1e-4)


@pytest.mark.parametrize("name", ["rms", "layer"])
def test_statistics_of_bfloat16_are_taken_in_float32(name: str) -> None:
    norm, x = make_norm(name, 4096), 10 + torch.randn(4, 4096)
    coarse = x.bfloat16().requires_grad_()
    y = norm(coarse)
    assert y.dtype == torch.bfloat16
    expected = make_norm(name, 4096)(coarse.detach().float())
    torch.testing.assert_close(y.float(), expected, rtol=0.02, atol=0.02)
    y.float().square().sum().backward()
    assert norm.weight.grad.dtype == torch.float32
    torch.testing.assert_close(
        norm.weight.grad.mean(), 2 * expected.square().mean(1).sum(), rtol=0.02, atol=0.0
    )


@pytest.mark.parametrize("name", ["rms", "layer"])
def test_gradients_of_float64_are_exact(name: str) -> None:
    norm, x = make_norm(name, 8).double(), torch.randn(3, 8, dtype=torch.float64)
    inputs = x.requires_grad_(), *norm.parameters()
    assert torch.autograd.gradcheck(lambda x, *_: norm(x), inputs, atol=1e-8, rtol=0.0)


@pytest.mark.parametrize("name", ["rms", "layer"])
def test_gradients_of_bfloat16_add_up_over_thousands_of_rows(name: str) -> None:
    """torch's own kernel adds them up in bfloat16 on a CPU: 256 ones and all that follow are 256."""
    x, grad = 0.5 + 2 * torch.randn(20_000, 8), 0.05 + 0.1 * torch.randn(20_000, 8)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        norm, leaf = make_norm(name, 8), x.bfloat16().to(dtype).requires_grad_()
        norm(leaf).backward(grad.bfloat16().to(dtype))
        found.append([leaf.grad.float(), *(param.grad for param in norm.parameters())])
    for exact, short in zip(*found, strict=True):
        assert float((short - exact).norm() / exact.norm()) < 0.01


@pytest.mark.parametrize("name", ["rms", "layer"])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_channel_norm_treats_each_pixel_by_itself(name: str, layout: torch.memory_format) -> None:
    norm, maps = make_norm(name, 6), torch.randn(2, 6, 3, 4)
    whole = ChannelNorm(norm)(maps.contiguous(memory_format=layout))
    assert whole.shape == maps.shape
    torch.testing.assert_close(whole[1, :, 2, 3], norm(maps[1, :, 2, 3]))


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match=r"norm must be 'rms' .* or 'layer' .*; got 'batch'"):
        make_norm("batch", 3)
