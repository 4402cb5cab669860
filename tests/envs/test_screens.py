"""Shrinking screens."""

from __future__ import annotations

import pytest
import torch

from mario_dreamer.envs.screens import gray, shrink


def test_shrink_gives_channels_first_bytes_of_the_asked_size() -> None:
    small = shrink(torch.zeros(2, 240, 256, 3, dtype=torch.uint8), 64, 48)
    assert small.shape == (2, 3, 64, 48) and small.dtype == torch.uint8 and small.is_contiguous()
    assert shrink(torch.zeros(240, 256, 3, dtype=torch.uint8), 96, 96).shape == (3, 96, 96)
    assert shrink(torch.zeros(2, 3, 9, 9, 3, dtype=torch.uint8), 8, 8).shape == (2, 3, 3, 8, 8)


def test_shrink_keeps_colour_and_mean() -> None:
    screen = torch.randint(0, 256, (240, 256, 3), dtype=torch.uint8)
    screen[..., 1] = 90
    small = shrink(screen, 64, 64).float()
    assert (small[1] == 90).all()
    assert small[0].mean().item() == pytest.approx(screen[..., 0].float().mean().item(), abs=2)
    assert small[0].std() < 0.5 * screen[..., 0].float().std()  # averaged, not picked


def test_crop_top_removes_the_rows_above() -> None:
    screen = torch.zeros(240, 256, 3, dtype=torch.uint8)
    screen[:32] = 255
    assert shrink(screen, 64, 64)[:, 0].float().mean() > 200
    assert (shrink(screen, 64, 64, crop_top=32) == 0).all()


def test_a_batch_shrinks_like_its_members() -> None:
    screens = torch.randint(0, 256, (3, 48, 64, 3), dtype=torch.uint8)
    alone = torch.stack([shrink(screen, 16, 16) for screen in screens])
    assert torch.equal(shrink(screens, 16, 16), alone)


def test_gray_weighs_green_most() -> None:
    picture = torch.zeros(3, 1, 3, dtype=torch.uint8)
    picture[0, 0, 0], picture[1, 0, 1], picture[2, 0, 2] = 100, 100, 100
    assert gray(picture).flatten().tolist() == [30, 59, 11]
