from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mario_dreamer.networks import ConvEncoder, MLPEncoder, MultiEncoder, StridedConvEncoder

BOTH = [ConvEncoder, StridedConvEncoder]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("shape", "cells"), [((3, 64, 64), 16), ((1, 32, 64), 8), ((3, 16, 16), 1)]
)
def test_frames_of_any_sixteenfold_shape_become_one_vector(
    kind: type[ConvEncoder], shape: tuple[int, int, int], cells: int
) -> None:
    encoder = kind(shape, depth=2)
    embed = encoder(torch.rand(2, 3, *shape))
    assert embed.shape == (2, 3, encoder.embed_dim)
    assert encoder.embed_dim == cells * 2 * (4 if kind is ConvEncoder else 8)


@pytest.mark.parametrize("kind", BOTH)
def test_a_side_that_cannot_be_halved_four_times_is_refused(kind: type[ConvEncoder]) -> None:
    with pytest.raises(
        ValueError, match=r"multiple of 16; got 84 x 84\. Set env\.image_size=80 or 96"
    ):
        kind((3, 84, 84))
    with pytest.raises(ValueError, match=r"multiple of 16; got 64 x 90.*=80 or 96"):
        kind((3, 64, 90))
    with pytest.raises(ValueError, match=r"multiple of 16; got 8 x 8.*=16 or 32"):
        kind((3, 8, 8))


def test_frames_with_channels_last_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(C, H, W\).*got image_shape=\(64, 64, 3\)"):
        ConvEncoder((64, 64, 3))


@pytest.mark.parametrize("kind", BOTH)
def test_frames_are_encoded_independently_and_not_changed(kind: type[ConvEncoder]) -> None:
    encoder, frames = kind((3, 16, 16), depth=4), torch.rand(2, 5, 3, 16, 16)
    before = frames.clone()
    together = encoder(frames)
    torch.testing.assert_close(together[1, 3], encoder(frames[1, 3]), rtol=1e-4, atol=1e-5)
    assert torch.equal(frames, before)


def test_a_middle_gray_frame_is_a_zero_input() -> None:
    encoder = ConvEncoder((3, 16, 16), depth=2)
    assert (encoder(torch.full((1, 3, 16, 16), 0.5)) == 0).all()
    assert (encoder(torch.full((1, 3, 16, 16), 0.6)) != 0).any()


def test_frames_of_another_size_are_refused_though_their_numbers_would_fit() -> None:
    encoder = ConvEncoder((3, 32, 32), depth=2)
    with pytest.raises(ValueError, match=r"^ConvEncoder: got frames \[4, 3, 16, 16\] .*; expected .*\[..., 3, 32, 32\]"):
        encoder(torch.zeros(4, 3, 16, 16))
    with pytest.raises(ValueError, match=r"got frames .* uint8 .*; expected floats in \[0, 1\]"):
        encoder(torch.zeros(3, 32, 32, dtype=torch.uint8))


def test_the_pool_keeps_the_strongest_before_the_norm() -> None:
    stages = ConvEncoder((3, 16, 16), depth=2).stages
    x, conv, norm = torch.randn(2, 3, 16, 16), stages[0], stages[2]
    pooled = F.max_pool2d(F.conv2d(x, conv.weight, conv.bias, padding=2), 2)
    torch.testing.assert_close(stages[:4](x), F.silu(norm(pooled)))


def test_sensors_are_squashed_by_symlog_first() -> None:
    encoder = MLPEncoder(3, layers=2, units=8)
    assert encoder.embed_dim == 8
    huge, squashed = torch.tensor([[0.0, 1e6, -1e6]]), torch.tensor([[0.0, 13.815512, -13.815512]])
    torch.testing.assert_close(encoder(huge), encoder.mlp(squashed))
    plain = MLPEncoder(3, layers=2, units=8, symlog=False)
    assert torch.equal(plain(huge), plain.mlp(huge))


def test_many_senses_stand_side_by_side() -> None:
    eye, touch = StridedConvEncoder((1, 16, 16), depth=2), MLPEncoder(3, 1, 8)
    encoder = MultiEncoder({"pixels": eye, "vector": touch})
    seen = {"pixels": torch.rand(4, 1, 16, 16), "vector": torch.randn(4, 3)}
    assert encoder.embed_dim == eye.embed_dim + 8
    expected = torch.cat([eye(seen["pixels"]), touch(seen["vector"])], -1)
    assert torch.equal(encoder(seen), expected)


def test_an_encoder_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least one observation key"):
        MultiEncoder({})


def test_a_patch_of_four_pixels_stands_for_two_halvings() -> None:
    encoder = StridedConvEncoder((3, 64, 64), depth=2, mults=(2, 4, 8), patch=4)
    assert encoder(torch.rand(5, 3, 64, 64)).shape == (5, 4 * 4 * 16)
    first, second = encoder.stages[0], encoder.stages[3]
    assert first.weight.shape == (4, 3, 8, 8) and first.stride == (4, 4)
    assert second.weight.shape == (8, 4, 4, 4) and second.stride == (2, 2)


def test_a_patch_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(ValueError, match="patch must be a power of two, 2 or more; got 3"):
        StridedConvEncoder((3, 64, 64), patch=3)
    with pytest.raises(ValueError, match="multiple of 16; got 24 x 24"):
        StridedConvEncoder((3, 24, 24), mults=(2, 4, 8), patch=4)
