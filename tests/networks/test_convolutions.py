"""Stages: compiled, the bias comes after the pool, and numbers and gradients are the same."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mario_dreamer.networks.convolutions import Stages, convolution
from mario_dreamer.networks.regions import compiled_regions

LAYERS = {
    "convolution and pool": lambda: [convolution(3, 4, 5), nn.MaxPool2d(2), nn.SiLU()],
    "doubling": lambda: [convolution(3, 4, 5, enlarges=True), nn.SiLU()],
    "transposed, few channels": lambda: [convolution(3, 4, 4, 2, enlarges=True), nn.SiLU()],
    "transposed, many channels": lambda: [convolution(3, 8, 4, 2, enlarges=True), nn.SiLU()],
    "patch": lambda: [convolution(3, 4, 2, 2, enlarges=True), nn.SiLU()],
}


@pytest.mark.parametrize("kind", LAYERS)
def test_compiled_stages_give_the_same(kind: str) -> None:
    torch.manual_seed(0)
    stages, x = Stages(*LAYERS[kind]()), torch.randn(2, 3, 8, 8)
    nn.init.normal_(stages[0].bias)
    plain = stages(x)
    with compiled_regions():
        compiled = stages(x)
    torch.testing.assert_close(compiled, plain)
    toward, inputs = torch.randn_like(plain), list(stages.parameters())
    wanted = torch.autograd.grad(plain, inputs, toward)
    for got, want in zip(torch.autograd.grad(compiled, inputs, toward), wanted, strict=True):
        torch.testing.assert_close(got, want)


def test_stages_compile_as_a_whole() -> None:
    stages, x = Stages(*LAYERS["convolution and pool"]()), torch.randn(2, 3, 8, 8)
    compiled = torch.compile(stages, fullgraph=True)
    torch.testing.assert_close(compiled(x), stages(x))


def test_stages_that_begin_with_another_layer_are_refused() -> None:
    with pytest.raises(TypeError, match=r"first layer is \['Conv2d'\]; expected one of conv"):
        Stages(nn.Conv2d(3, 4, 3), nn.SiLU())(torch.randn(2, 3, 8, 8))


def test_plain_stages_equal_torchs_own_layers() -> None:
    torch.manual_seed(0)
    conv = convolution(3, 4, 5)
    nn.init.normal_(conv.bias)
    x = torch.randn(2, 3, 8, 8)
    pooled = F.max_pool2d(F.conv2d(x, conv.weight, conv.bias, padding=2), 2)
    torch.testing.assert_close(Stages(conv, nn.MaxPool2d(2))(x), pooled)
