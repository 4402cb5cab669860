"""Videos come back with every frame and near colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mario_dreamer.tracking.video import decode_video, encode_gif, encode_mp4, save_png


def _frames(count: int, height: int = 32, width: int = 48) -> Tensor:
    """Sky and ground of plain colours, and a step that grows with time."""
    frames = torch.empty(count, 3, height, width, dtype=torch.uint8)
    frames[:] = torch.tensor([92, 148, 252], dtype=torch.uint8)[:, None, None]
    frames[:, :, height // 2 :] = torch.tensor([200, 76, 12], dtype=torch.uint8)[:, None, None]
    for time in range(count):
        frames[time, :, :, : 4 * time] = 0
    return frames


def test_an_mp4_plays_back_every_frame_in_near_colours(tmp_path: Path) -> None:
    frames = _frames(9)
    path = encode_mp4(frames, tmp_path / "a" / "b.mp4", fps=10, scale=2)
    back, fps = decode_video(path)
    assert back.shape == (9, 3, 64, 96) and fps == 10
    error = (back[..., ::2, ::2].float() - frames.float()).abs()
    assert error.mean() < 6
    assert (back[0, :, 4, 80].int() - torch.tensor([92, 148, 252])).abs().max() < 10


def test_an_odd_sized_video_gains_one_pixel(tmp_path: Path) -> None:
    path = encode_mp4(_frames(2, 33, 47), tmp_path / "odd.mp4")
    assert decode_video(path)[0].shape == (2, 3, 34, 48)


def test_a_gif_keeps_frames_and_pace(tmp_path: Path) -> None:
    path = encode_gif(_frames(5), tmp_path / "a.gif", fps=10)
    with Image.open(path) as image:
        assert image.n_frames == 5
        assert image.info["duration"] == 100
        assert image.size == (48, 32)


def test_a_png_is_exact(tmp_path: Path) -> None:
    picture = torch.randint(0, 256, (3, 7, 5), dtype=torch.uint8)
    with Image.open(save_png(picture, tmp_path / "a.png")) as image:
        assert torch.equal(torch.from_numpy(np.array(image)).permute(2, 0, 1), picture)


def test_float_frames_are_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Multiply floats by 255"):
        encode_mp4(torch.zeros(2, 3, 8, 8), tmp_path / "a.mp4")


def test_a_failed_encoding_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").mkdir()  # the place is taken by a folder
    with pytest.raises((OSError, ValueError)):
        save_png(torch.zeros(3, 4, 4, dtype=torch.uint8), tmp_path / "a.xyz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.xyz"]
