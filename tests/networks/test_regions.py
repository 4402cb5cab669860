"""What regions do to the weights of linear layers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mario_dreamer.networks import regions
from mario_dreamer.networks.layers import MLP


def test_sides_are_filled_up_to_the_next_multiple_of_eight() -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    padded = regions.padded(weight)
    assert padded.shape == (8, 8)
    assert torch.equal(padded[:2, :3], weight) and padded.sum() == weight.sum()
    assert regions.padded(torch.ones(9)).tolist() == [1.0] * 9 + [0.0] * 7
    fits = torch.ones(16, 8)
    assert regions.padded(fits) is fits


def test_padded_weights_give_the_same_outputs_and_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shapes: list[tuple[int, ...]] = []

    def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        shapes.append((x.shape[-1], *weight.shape, *bias.shape))
        return plain(x, weight, bias)

    plain = F.linear
    monkeypatch.setattr(F, "linear", linear)
    monkeypatch.setattr(regions, "_compile", lambda function: function)
    mlp, x = MLP(13, 24, 1, out_dim=7), torch.randn(5, 13, requires_grad=True)
    wanted = torch.randn(5, 7)

    def gradients() -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            out = mlp(x)
        assert out.shape == (5, 7) and out.dtype == torch.bfloat16
        return [out, *torch.autograd.grad((out * wanted).sum(), [x, *mlp.parameters()])]

    expected = gradients()
    assert shapes == [(13, 24, 13, 24), (24, 7, 24, 7)]
    shapes.clear()
    with regions.compiled_regions():
        found = gradients()
    assert shapes == [(16, 24, 16, 24), (24, 8, 24, 8)]
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-2)
    assert mlp.out.weight.shape == (7, 24) and mlp.out.weight.dtype == torch.float32
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        mlp(x[:, :12])  # nothing is filled up but the weights
