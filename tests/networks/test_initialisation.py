from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mario_dreamer.networks.convolutions import convolution
from mario_dreamer.networks.initialisation import init_
from mario_dreamer.networks.layers import BlockLinear, linear


def weight(rows: int = 400, columns: int = 300) -> Tensor:
    return torch.empty(rows, columns)


def test_fan_in_has_unit_variance_per_output_and_no_tail() -> None:
    filled = init_(weight(), 300, 400)
    assert filled.std().item() == pytest.approx(1 / math.sqrt(300), rel=0.01)
    assert filled.abs().max().item() <= 2 * 1.13686 / math.sqrt(300)


def test_fan_in_is_scaled_by_outscale_and_zero_means_zeros() -> None:
    assert init_(weight(), 300, 400, outscale=0.01).std().item() == pytest.approx(
        0.01 / math.sqrt(300), rel=0.01
    )
    assert (init_(weight(), 300, 400, outscale=0.0) == 0).all()


def test_fan_avg_averages_inputs_and_outputs() -> None:
    assert init_(weight(), 300, 500, "fan_avg").std().item() == pytest.approx(0.05, rel=0.01)


def test_uniform_reaches_its_bound_and_no_further() -> None:
    bound = math.sqrt(3 * 4.0 / 350)
    assert init_(weight(), 300, 400, "fan_avg", 4.0).abs().max().item() == pytest.approx(
        bound, rel=0.01
    )
    assert (init_(weight(), 300, 400, "fan_avg", 0.0) == 0).all()


def test_v1_init_truncates_inner_layers_not_output_layers() -> None:
    inner = init_(weight(), 300, 400, "fan_avg")
    output = init_(weight(), 300, 400, "fan_avg", outscale=1.0)
    bound = math.sqrt(3 / 350)
    assert inner.abs().max() > bound >= output.abs().max()


def test_layers_count_their_fans_as_the_paper_code_does() -> None:
    assert linear(256, 512).weight.std().item() == pytest.approx(1 / 16, rel=0.02)
    # 5 x 5 x 16 inputs meet in an output
    assert convolution(16, 64, 5).weight.std().item() == pytest.approx(1 / 20, rel=0.02)
    # all 8 blocks' inputs, although an output reads only one block
    assert BlockLinear(1024, 512, 8).weight.std().item() == pytest.approx(1 / 32, rel=0.02)


def test_biases_begin_at_zero() -> None:
    for layer in (linear(8, 8), convolution(8, 8, 5), BlockLinear(16, 16, 8)):
        assert (layer.bias == 0).all()


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'fan_in' .* or 'fan_avg' .*; got 'xavier'"):
        init_(weight(), 1, 1, "xavier")
