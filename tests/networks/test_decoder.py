from __future__ import annotations

import pytest
import torch

from mario_dreamer.networks import ConvDecoder, MLPDecoder, StridedConvDecoder

STATE = {"deter_dim": 16, "stoch_shape": (4, 3)}
BOTH = [ConvDecoder, StridedConvDecoder]


def state(*batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(*batch, 16), torch.rand(*batch, 4, 3)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("input", ["blocks", "linear"])
@pytest.mark.parametrize("norm", ["rms", "layer"])
@pytest.mark.parametrize("shape", [(3, 32, 16), (1, 16, 16)])
def test_every_choice_combines_with_every_other(
    kind: type[ConvDecoder], input: str, norm: str, shape: tuple[int, int, int]
) -> None:
    decoder = kind(**STATE, image_shape=shape, depth=2, input=input, norm=norm, units=8)
    frames = decoder(*state(2, 3))
    assert frames.shape == (2, 3, *shape) and frames.dtype == torch.float32
    loss = -decoder.dist(frames).log_prob(torch.rand(2, 3, *shape))
    assert loss.shape == (2, 3)
    loss.mean().backward()
    missing = [name for name, weight in decoder.named_parameters() if weight.grad is None]
    assert not missing


@pytest.mark.parametrize("kind", BOTH)
def test_a_decoder_without_an_opinion_paints_gray(kind: type[ConvDecoder]) -> None:
    for sigmoid in (True, False):
        decoder = kind(**STATE, image_shape=(3, 16, 16), depth=2, sigmoid=sigmoid)
        torch.nn.init.zeros_(decoder.stages[-2].weight)
        frames = decoder(*state(1))
        assert torch.equal(frames, torch.full((1, 3, 16, 16), 0.5))
        white = torch.ones(1, 3, 16, 16)
        assert decoder.dist(frames).log_prob(white).item() == -3 * 16 * 16 * 0.25


def test_a_sigmoid_keeps_frames_between_black_and_white() -> None:
    decoder = ConvDecoder(**STATE, image_shape=(3, 16, 16), depth=2)
    torch.nn.init.normal_(decoder.stages[-2].weight, std=9.0)
    frames = decoder(*state(8))
    assert 0.0 <= frames.min() < 0.1 and 0.9 < frames.max() <= 1.0


def test_each_state_is_drawn_by_itself() -> None:
    decoder = ConvDecoder(**STATE, image_shape=(3, 16, 16), depth=2)
    deter, stoch = state(2, 3)
    alone = decoder(deter[1, 2], stoch[1, 2])
    torch.testing.assert_close(decoder(deter, stoch)[1, 2], alone, rtol=1e-4, atol=1e-5)


def test_a_block_of_the_memory_writes_channels_of_its_own() -> None:
    decoder = ConvDecoder(**STATE, image_shape=(3, 32, 32), depth=4)  # a map of 2 x 2 x 16
    from_deter = decoder.input.from_deter
    decoder.input.from_stoch = torch.nn.Linear(12, 64)
    torch.nn.init.zeros_(decoder.input.from_stoch.weight)
    torch.nn.init.zeros_(decoder.input.from_stoch.bias)
    decoder.input.norm = torch.nn.Identity()
    deter = torch.zeros(1, 16)
    deter[0, 6:8] = 1.0  # block 3 of 8
    maps = decoder.input(deter, torch.zeros(1, 12))
    assert maps.shape == (1, 16, 2, 2)
    assert maps[0, 6:8].count_nonzero() == 8  # 2 channels, everywhere
    assert maps.count_nonzero() == 8
    written = from_deter(deter).reshape(8, 2, 2, 2)  # block, h, w, channel of the block
    torch.testing.assert_close(maps[0, 7, 1, 0], torch.nn.functional.silu(written[3, 1, 0, 1]))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ConvDecoder halves .* multiple of 16; got 20 x 20"):
        ConvDecoder(**STATE, image_shape=(3, 20, 20))
    with pytest.raises(ValueError, match=r"12 channels, which 8 blocks cannot share"):
        ConvDecoder(**STATE, image_shape=(3, 16, 16), depth=3)
    with pytest.raises(ValueError, match=r"decoder.input must be blocks .* got 'conv'"):
        ConvDecoder(**STATE, image_shape=(3, 16, 16), input="conv")


def test_sensors_are_predicted_in_symlog_space() -> None:
    decoder = MLPDecoder(**STATE, vector_dim=3, layers=1, units=8)
    torch.nn.init.zeros_(decoder.mlp.out.weight)
    torch.nn.init.constant_(decoder.mlp.out.bias, 1.0)
    mean = decoder(*state(5))
    assert torch.equal(mean, torch.ones(5, 3))
    target = torch.full((5, 3), 1.7182818)  # symexp(1)
    torch.testing.assert_close(decoder.dist(mean).log_prob(target), torch.zeros(5))
    torch.testing.assert_close(decoder.dist(mean).mean, target)
    decoder.symlog = False  # the readings themselves: three errors of 2 each
    torch.testing.assert_close(decoder.dist(mean).log_prob(3 * mean), torch.full((5,), -12.0))
    torch.testing.assert_close(decoder.dist(mean).mean, mean)


def test_a_patch_of_pixels_depends_on_one_place_of_the_map() -> None:
    decoder = StridedConvDecoder(
        8, (2, 4), (3, 32, 32), depth=2, mults=(2, 4), patch=4, input="linear"
    )
    last = decoder.stages[-2]
    assert last.weight.shape == (4, 3, 4, 4) and last.stride == (4, 4)
    maps = torch.zeros(1, 4, 8, 8)
    quiet = last(maps)
    maps[0, :, 2, 5] = 1.0
    changed = (last(maps) != quiet).any(1)[0]  # [32, 32]
    assert changed[8:12, 20:24].all()
    assert changed.sum() == 16
    assert decoder(torch.rand(3, 8), torch.rand(3, 2, 4)).shape == (3, 3, 32, 32)
