"""Doubling, sub-pixel and patch convolutions give what torch's own operations give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mario_dreamer.networks.upsampling import DoublingConv, PatchConv, SubpixelConv


@pytest.fixture(params=[False, True], ids=["as on a CPU", "as on a GPU"], autouse=True)
def padded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU there are more channels, for tensor cores."""
    monkeypatch.setattr(Tensor, "is_cuda", property(lambda tensor: request.param))


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_it_equals_repeating_pixels_and_convolving(kernel: int) -> None:
    torch.manual_seed(0)
    layer = DoublingConv(3, 4, kernel).double()
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(F.interpolate(x, scale_factor=2), layer.weight, layer.bias, padding="same")
    torch.testing.assert_close(layer(x), plain)
    toward = torch.randn_like(plain)
    wanted = torch.autograd.grad(plain, [x, *layer.parameters()], toward)
    for got, want in zip(
        torch.autograd.grad(layer(x), [x, *layer.parameters()], toward),
        wanted,
        strict=True,
    ):
        torch.testing.assert_close(got, want)


def test_bfloat16_rounds_only_inputs_and_summed_weights() -> None:
    torch.manual_seed(0)
    layer, x = DoublingConv(16, 8, 5), torch.randn(2, 16, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x)
    assert half.dtype is torch.bfloat16
    assert (half.float() - layer(x)).norm() < 0.01 * layer(x).norm()


def test_the_output_lies_channels_last() -> None:
    layer = DoublingConv(4, 8, 5)
    assert layer(torch.randn(2, 4, 4, 4)).is_contiguous(memory_format=torch.channels_last)


TRANSPOSED = [(PatchConv(5, 3, 4), 4, 0)] + [(SubpixelConv(5, 3, k), 2, k // 2 - 1) for k in (2, 4, 6, 8)]


@pytest.mark.parametrize(("layer", "stride", "padding"), TRANSPOSED)
def test_it_equals_the_transposed_convolution(
    layer: PatchConv | SubpixelConv, stride: int, padding: int
) -> None:
    torch.manual_seed(0)
    layer = layer.double()
    x = torch.randn(2, 5, 3, 2, dtype=torch.float64, requires_grad=True)
    torch.nn.init.normal_(layer.bias)
    plain = F.conv_transpose2d(x, layer.weight, layer.bias, stride, padding)
    torch.testing.assert_close(layer(x), plain)
    toward, inputs = torch.randn_like(plain), [x, *layer.parameters()]
    wanted = torch.autograd.grad(plain, inputs, toward)
    for got, want in zip(torch.autograd.grad(layer(x), inputs, toward), wanted, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("layer", [DoublingConv(4, 3, 5), SubpixelConv(4, 3, 4)])
def test_an_ensemble_of_weights_works(layer: DoublingConv | SubpixelConv) -> None:
    def double(weight: Tensor, x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, x)

    weights, x = torch.randn(2, *layer.weight.shape), torch.randn(5, 4, 6, 6)
    both = torch.func.vmap(double, (0, None))(weights, x)
    torch.testing.assert_close(both, torch.stack([double(weight, x) for weight in weights]))
