"""Open-loop images: observed frames, predicted frames and their error.

A green border means that the state has seen the frame of that moment (posterior); a red one that
it goes on by the prior alone (open loop).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

POSTERIOR = (40, 200, 60)
OPEN_LOOP = (230, 40, 40)
_PAPER = 24  # grey level between pictures
_GAP = 1  # pixels between pictures
_HEADER = 12  # pixels for the times along x


def upscale(frames: Tensor, factor: int) -> Tensor:
    """Draw each pixel as factor x factor equal pixels, [..., H, W] -> [..., f H, f W].

    Raises:
        ValueError: for a factor below 1.
    """
    if factor < 1:
        raise ValueError(f"upscale: got factor {factor}, expected a whole number from 1 on.")
    if factor == 1:
        return frames
    return frames.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


def _bytes(frames: Tensor) -> Tensor:
    """Floats in [0, 1] -> uint8 on the CPU; others are clipped."""
    return (frames.detach().float().cpu().clamp(0, 1) * 255).round().byte()


def _framed(frames: Tensor, colours: Tensor, width: int) -> Tensor:
    """Put a border around each frame, outside of it.

    Args:
        frames: [T, B, 3, H, W] uint8.
        colours: [T, 3] uint8, one for each time.
        width: of the border, pixels.

    Returns:
        [T, B, 3, H + 2 width, W + 2 width] uint8.
    """
    *batch, _, height, width_in = frames.shape
    size = (*batch, 3, height + 2 * width, width_in + 2 * width)
    framed = colours[:, None, :, None, None].expand(size).clone()
    framed[..., width:-width, width:-width] = frames
    return framed


def stack_rows(*rows: Sequence[Tensor], gap: int = _GAP) -> Tensor:
    """Lay videos out on a grid.

    Args:
        rows: each a sequence of videos [T, 3, H, W] uint8, all of one shape.
        gap: grey pixels between and around them.

    Returns:
        [T, 3, H', W'] uint8 with H' = rows * (H + gap) + gap, W' likewise.

    Raises:
        ValueError: when rows differ in length, or videos in shape.
    """
    if not rows or not rows[0] or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError(
            f"stack_rows: got rows of {[len(row) for row in rows]} videos; expected at least "
            "one row, all equally long."
        )
    shapes = {tuple(video.shape) for row in rows for video in row}
    if len(shapes) != 1:
        raise ValueError(f"stack_rows: got videos of shapes {sorted(shapes)}; expected one shape.")
    time, channels, height, width = shapes.pop()
    size = (len(rows) * (height + gap) + gap, len(rows[0]) * (width + gap) + gap)
    grid = torch.full((time, channels, *size), _PAPER, dtype=torch.uint8)
    for i, row in enumerate(rows):
        for j, video in enumerate(row):
            top, left = gap + i * (height + gap), gap + j * (width + gap)
            grid[..., top : top + height, left : left + width] = video
    return grid


def _check_pair(truth: Tensor, prediction: Tensor, context: int, who: str) -> None:
    """Check a pair of [B, T, 3, H, W] frames."""
    if truth.ndim != 5 or truth.shape != prediction.shape or not truth.is_floating_point():
        raise ValueError(
            f"{who}: got truth {tuple(truth.shape)} {truth.dtype} and prediction "
            f"{tuple(prediction.shape)}; expected both [B, T, 3, H, W], floats in [0, 1]."
        )
    if not 0 <= context <= truth.shape[1]:
        raise ValueError(
            f"{who}: got context {context}; expected 0 .. {truth.shape[1]}, the number of frames."
        )


def open_loop_frames(
    truth: Tensor, prediction: Tensor, context: int, scale: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Make the three rows of an open-loop picture.

    Args:
        truth, prediction: [B, T, 3, H, W] floats in [0, 1].
        context: the first so many frames were seen; from there on it is open loop.
        scale: draw each pixel as scale x scale.

    Returns:
        truth, prediction with its border, and error = (prediction - truth + 1) / 2 (grey where
        both agree), each [T, B, 3, H', W'] uint8; H', W' are scaled and have room for a border.

    Raises:
        ValueError: when shapes, types or context do not fit.
    """
    _check_pair(truth, prediction, context, "open_loop_frames")
    truth, prediction = truth.detach().float().cpu(), prediction.detach().float().cpu()
    error = (prediction - truth + 1) / 2
    rows = [upscale(_bytes(row).transpose(0, 1), scale) for row in (truth, prediction, error)]
    seen = torch.arange(truth.shape[1]) < context
    signal = torch.tensor([OPEN_LOOP, POSTERIOR], dtype=torch.uint8)[seen.long()]  # [T, 3]
    paper = torch.full_like(signal, _PAPER)
    border = max(1, rows[0].shape[-1] // 32)
    first, second, third = rows
    return (
        _framed(first, paper, border),
        _framed(second, signal, border),
        _framed(third, paper, border),
    )


def open_loop_video(truth: Tensor, prediction: Tensor, context: int, scale: int = 1) -> Tensor:
    """Show truth above prediction above error, one column per sequence.

    Args:
        truth, prediction: [B, T, 3, H, W] floats in [0, 1].
        context: the first so many frames were seen (green border), the others not (red).
        scale: draw each pixel as scale x scale.

    Returns:
        [T, 3, H', W'] uint8.

    Raises:
        ValueError: when shapes, types or context do not fit.
    """
    rows = open_loop_frames(truth, prediction, context, scale)
    return stack_rows(*(list(row.unbind(1)) for row in rows))


def image_strip(
    truth: Tensor, prediction: Tensor, context: int, every: int = 1, scale: int = 1,
    width: int = 1200,
) -> Tensor:  # fmt: skip
    """Show one sequence as a picture: time runs along x, truth above prediction above error.

    Args:
        truth, prediction: [T, 3, H, W] floats in [0, 1].
        context: the first so many frames were seen (green border), the others not (red).
        every: show each so many-th frame; the numbers on top are their t.
        scale: draw each pixel as scale x scale.
        width: largest width of the picture, in pixels; a longer sequence goes on below.

    Returns:
        [3, H', W'] uint8, W' <= width where one frame fits.

    Raises:
        ValueError: when shapes, types or context do not fit, or `every` is below 1.
    """
    if every < 1:
        raise ValueError(f"image_strip: got every={every}, expected a whole number from 1 on.")
    rows = open_loop_frames(truth[None], prediction[None], context, scale)
    frames = [row[::every, 0] for row in rows]  # each [n, 3, H, W]
    times = range(0, len(truth), every)
    column = rows[0].shape[-1]
    size = max(1, (width - _GAP) // (column + _GAP))
    size = math.ceil(len(times) / math.ceil(len(times) / size))  # equally long lines
    lines = []
    for first in range(0, len(times), size):
        shown = [part[first : first + size] for part in frames]
        picture = stack_rows(*(list(part.unsqueeze(1)) for part in shown))[0]
        header = _header(times[first : first + size], picture.shape[-1], column)
        lines.append(torch.cat([header, picture], dim=-2))
    widest = lines[0].shape[-1]
    return torch.cat([pad(x, (0, widest - x.shape[-1]), value=_PAPER) for x in lines], dim=-2)


def _header(times: Sequence[int], width: int, column: int) -> Tensor:
    """Write each t above its column; skip those that would touch. [3, _HEADER, width] uint8."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, _HEADER), (_PAPER,) * 3)
    draw = ImageDraw.Draw(image)
    free = 0.0
    for i, time in enumerate(times):
        left = _GAP + i * (column + _GAP)
        text = f"t={time}" if not i else str(time)
        if left >= free:
            draw.text((left + 1, 0), text, fill=(220, 220, 220))
            free = left + draw.textlength(text) + 4
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.view(_HEADER, width, 3).permute(2, 0, 1)
