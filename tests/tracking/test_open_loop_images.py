"""Borders show where a frame was seen; the rows hold truth, prediction and error."""

from __future__ import annotations

import pytest
import torch

from mario_dreamer.tracking.open_loop_images import (
    OPEN_LOOP,
    POSTERIOR,
    image_strip,
    open_loop_frames,
    open_loop_video,
    upscale,
)


def test_the_border_is_green_for_context_and_red_after_it() -> None:
    truth = torch.zeros(2, 5, 3, 8, 8)
    _, prediction, _ = open_loop_frames(truth, truth, context=2)
    for time in range(5):
        expected = POSTERIOR if time < 2 else OPEN_LOOP
        for corner in (prediction[time, :, :, 0, 0], prediction[time, :, :, -1, -1]):
            assert corner.tolist() == [list(expected)] * 2


def test_the_border_hides_no_pixel_of_the_prediction() -> None:
    prediction = torch.rand(1, 3, 3, 8, 8)
    _, row, _ = open_loop_frames(torch.zeros_like(prediction), prediction, context=1)
    inside = row[:, 0, :, 1:-1, 1:-1]
    assert torch.equal(inside, (prediction[0] * 255).round().byte())


def test_the_error_is_grey_where_both_agree() -> None:
    truth, prediction = torch.zeros(1, 1, 3, 4, 4), torch.zeros(1, 1, 3, 4, 4)
    prediction[..., 0, 0] = 1.0
    _, _, error = open_loop_frames(truth, prediction, context=0)
    inside = error[0, 0, :, 1:-1, 1:-1]
    assert inside[:, 0, 0].tolist() == [255] * 3
    assert inside[:, 1, 1].tolist() == [128] * 3


def test_the_video_has_three_rows_and_a_column_per_sequence() -> None:
    truth = torch.ones(2, 6, 3, 8, 8)
    video = open_loop_video(truth, truth, context=3, scale=2)
    # A frame is 2 * 8 pixels and a border of 1 on each side; gaps of 1 between and around.
    assert video.shape == (6, 3, 3 * (18 + 1) + 1, 2 * (18 + 1) + 1)
    assert video.dtype == torch.uint8


def test_the_strip_shows_every_kth_frame_along_x() -> None:
    truth = torch.zeros(7, 3, 8, 8)
    strip = image_strip(truth, truth, context=3, every=3)  # t = 0, 3, 6
    height, width = 3 * (10 + 1) + 1, 3 * (10 + 1) + 1
    assert strip.shape == (3, 12 + height, width)
    top = 12 + 1 + 11  # header, gap, row of truth
    corners = [strip[:, top, 1 + 11 * column].tolist() for column in range(3)]
    assert corners == [list(POSTERIOR), list(OPEN_LOOP), list(OPEN_LOOP)]
    assert strip[:, :12].max() > 100, "the times are written on top"


def test_upscaling_repeats_pixels() -> None:
    image = torch.tensor([[1, 2], [3, 4]])
    assert upscale(image, 2).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


def test_wrong_frames_are_refused() -> None:
    truth = torch.zeros(1, 4, 3, 8, 8)
    with pytest.raises(ValueError, match="floats in"):
        open_loop_video(truth.byte(), truth.byte(), context=1)


def test_a_long_strip_goes_on_below() -> None:
    truth = torch.zeros(7, 3, 8, 8)
    whole = image_strip(truth, truth, context=3)
    wrapped = image_strip(truth, truth, context=3, width=50)  # four frames of 11 fit
    assert whole.shape == (3, 46, 7 * 11 + 1)
    assert wrapped.shape == (3, 2 * 46, 4 * 11 + 1)
    assert torch.equal(wrapped[:, 12:46], whole[:, 12:, : 4 * 11 + 1])
    assert torch.equal(wrapped[:, 46 + 12 :, : 3 * 11], whole[:, 12:, 4 * 11 : -1])
