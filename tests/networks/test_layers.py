from __future__ import annotations

import pytest
import torch

from mario_dreamer.networks.convolutions import convolution
from mario_dreamer.networks.layers import MLP, BlockLinear, normed
from mario_dreamer.networks.norms import LayerNorm


def test_block_linear_equals_a_block_diagonal_linear_layer() -> None:
    layer, x = BlockLinear(6, 9, blocks=3), torch.randn(4, 5, 6)
    torch.nn.init.normal_(layer.bias)
    dense = torch.block_diag(*layer.weight)  # [6, 9]
    torch.testing.assert_close(layer(x), x @ dense + layer.bias)


def test_blocks_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match=r"multiples of 8; got 12 -> 16"):
        BlockLinear(12, 16, 8)


def test_a_linear_layer_has_no_bias_before_a_norm_that_shifts() -> None:
    assert normed(3, 4, "rms")[0].bias is not None
    assert normed(3, 4, "layer")[0].bias is None


def test_an_mlp_ends_with_an_activation_or_an_output_layer() -> None:
    x = torch.randn(50, 3)
    assert MLP(3, 8, 2)(x).shape == (50, 8)
    assert MLP(3, 8, 2)(x).min() > -0.3  # SiLU never says less
    assert MLP(3, 8, 2, out_dim=5)(x).shape == (50, 5)
    assert MLP(3, 8, 0, out_dim=5)(x).shape == (50, 5)
    assert (MLP(3, 8, 1, out_dim=5, outscale=0.0)(x) == 0).all()


def test_an_mlp_with_layer_norm_uses_it_in_every_layer() -> None:
    kinds = [type(module) for module in MLP(3, 8, 3, norm="layer").modules()]
    assert kinds.count(LayerNorm) == 3


@pytest.mark.parametrize(
    ("kernel", "stride", "transposed", "side"),
    [(5, 1, False, 8), (3, 1, False, 8), (4, 2, False, 4), (4, 2, True, 16), (6, 2, True, 16)],
)
def test_a_convolution_keeps_halves_or_doubles_the_side(
    kernel: int, stride: int, transposed: bool, side: int
) -> None:
    layer = convolution(3, 7, kernel, stride, transposed)
    assert layer(torch.randn(2, 3, 8, 8)).shape == (2, 7, side, side)


def test_a_kernel_that_pads_unevenly_is_refused() -> None:
    with pytest.raises(ValueError, match=r"stride 2 needs a kernel of 2, 4, 6, .*; got 5"):
        convolution(3, 3, 5, 2)
