"""A folded convolution and the maximum of four give what torch's convolution and pool give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mario_dreamer.networks.convolutions import Stages
from mario_dreamer.networks.downsampling import FoldedConv, MaxOfFour
from mario_dreamer.networks.regions import compiled_regions


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_it_equals_convolving_and_pooling(kernel: int) -> None:
    torch.manual_seed(0)
    layer, pool = FoldedConv(3, 4, kernel).double(), MaxOfFour()
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64, requires_grad=True)
    plain = F.max_pool2d(F.conv2d(x, layer.weight, layer.bias, padding=kernel // 2), 2)
    torch.testing.assert_close(pool(layer(x)), plain)
    toward, inputs = torch.randn_like(plain), [x, *layer.parameters()]
    wanted = torch.autograd.grad(plain, inputs, toward)
    for got, want in zip(torch.autograd.grad(pool(layer(x)), inputs, toward), wanted, strict=True):
        torch.testing.assert_close(got, want)


def test_among_equals_the_first_gets_the_gradient() -> None:
    maps = torch.tensor([3.0, 3.0, 1.0, 3.0]).reshape(1, 4, 1, 1).requires_grad_()
    MaxOfFour()(maps).sum().backward()
    assert maps.grad.flatten().tolist() == [1.0, 0.0, 0.0, 0.0]


def test_compiled_stages_add_the_bias_after_the_pool_and_give_the_same() -> None:
    torch.manual_seed(0)
    layer = FoldedConv(3, 4, 5)
    torch.nn.init.normal_(layer.bias)
    stages, x = Stages(layer, MaxOfFour(), torch.nn.SiLU()), torch.randn(2, 3, 8, 8)
    toward, inputs = torch.randn(2, 4, 4, 4), list(layer.parameters())
    plain = torch.autograd.grad(stages(x), inputs, toward)
    with compiled_regions():
        compiled = stages(x)
    torch.testing.assert_close(compiled, stages(x))
    for got, want in zip(torch.autograd.grad(compiled, inputs, toward), plain, strict=True):
        torch.testing.assert_close(got, want)
