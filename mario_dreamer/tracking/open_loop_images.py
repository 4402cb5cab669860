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
    """Draw each pixel as factor x factor equal pixels, [..., H, W] -> [..., f H, f W]."""
    return frames.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


def stack_rows(*rows: Sequence[Tensor] | Tensor) -> Tensor:
    """Lay videos out on a grid, with grey lines of a pixel between and around them.

    Args:
        rows: equally long sequences of videos [T, 3, H, W] uint8, all of one shape; or tensors.

    Returns:
        [T, 3, H', W'] uint8 with H' = rows * (H + 1) + 1, W' likewise.
    """
    lines = [
        torch.cat([pad(video, (_GAP, 0, _GAP, 0), value=_PAPER) for video in row], dim=-1)
        for row in rows
    ]
    return pad(torch.cat(lines, dim=-2), (0, _GAP, 0, _GAP), value=_PAPER)


def open_loop_frames(
    truth: Tensor, prediction: Tensor, context: int, scale: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Make the three rows of an open-loop picture.

    Args:
        truth, prediction: [B, T, 3, H, W] floats in [0, 1].
        context: the first so many frames were seen (green border); from there on it is open
            loop (red).
        scale: draw each pixel as scale x scale.

    Returns:
        truth, prediction with its border, and error = (prediction - truth + 1) / 2 (grey where
        both agree), each [T, B, 3, H', W'] uint8; H', W' are scaled and have room for a border.

    Raises:
        ValueError: when shapes or types do not fit.
    """
    if truth.ndim != 5 or truth.shape != prediction.shape or not truth.is_floating_point():
        raise ValueError(
            f"open_loop_frames: got truth {tuple(truth.shape)} {truth.dtype} and prediction "
            f"{tuple(prediction.shape)}; expected both [B, T, 3, H, W], floats in [0, 1]."
        )
    border = max(1, scale * truth.shape[-1] // 32)

    def framed(frames: Tensor) -> Tensor:
        pixels = (frames.clamp(0, 1) * 255).round().byte().transpose(0, 1)
        return pad(upscale(pixels, scale), [border] * 4, value=_PAPER)

    truth, prediction = truth.detach().float().cpu(), prediction.detach().float().cpu()
    shown = framed(prediction)
    seen = torch.arange(truth.shape[1]) < context
    colours = torch.tensor([OPEN_LOOP, POSTERIOR], dtype=torch.uint8)[seen.long()]  # [T, 3]
    coloured = colours[:, None, :, None, None].expand(shown.shape).clone()
    inside = slice(border, -border)
    coloured[..., inside, inside] = shown[..., inside, inside]
    return framed(truth), coloured, framed((prediction - truth + 1) / 2)


def open_loop_video(truth: Tensor, prediction: Tensor, context: int, scale: int = 1) -> Tensor:
    """Show truth above prediction above error, one column per sequence.

    Args:
        truth, prediction, context, scale: see `open_loop_frames`, which checks them.

    Returns:
        [T, 3, H', W'] uint8.
    """
    rows = open_loop_frames(truth, prediction, context, scale)
    return stack_rows(*(row.unbind(1) for row in rows))


def image_strip(
    truth: Tensor, prediction: Tensor, context: int, every: int = 1, scale: int = 1,
    width: int = 1200,
) -> Tensor:  # fmt: skip
    """Show one sequence as a picture: time runs along x, truth above prediction above error.

    Args:
        truth, prediction: [T, 3, H, W] floats in [0, 1].
        context, scale: see `open_loop_frames`, which checks them.
        every: show each so many-th frame; the numbers on top are their t.
        width: largest width of the picture, in pixels; a longer sequence goes on below.

    Returns:
        [3, H', W'] uint8, W' <= width where one frame fits.
    """
    rows = open_loop_frames(truth[None], prediction[None], context, scale)
    column = rows[0].shape[-1]
    times = torch.arange(0, len(truth), every)
    count = math.ceil(len(times) / max(1, (width - _GAP) // (column + _GAP)))  # of lines
    lines = []
    shown = (row[times].chunk(count) for row in rows)  # each [n, 1, 3, H, W]
    for moments, *parts in zip(times.chunk(count), *shown, strict=True):
        picture = stack_rows(*parts)[0]
        header = _header(moments.tolist(), picture.shape[-1], column)
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
