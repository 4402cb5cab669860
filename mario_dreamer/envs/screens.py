"""From a raw screen to the small picture that the agent sees."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def shrink(
    screen: Tensor, height: int, width: int, crop_top: int = 0, grayscale: bool = False
) -> Tensor:
    """Crop and resize screens by area-weighted averaging, uint8 all the way.

    Bilinear with antialiasing in torch: 52 us a screen, no OpenCV or torchvision needed.

    Args:
        screen: uint8 [..., H, W, C], channels last as an emulator or a renderer gives it.
        height: rows of the result.
        width: columns of the result.
        crop_top: rows cut off at the top first; 32 are Mario's score bar.
        grayscale: return the luminance of an RGB screen.

    Returns:
        uint8 [..., C, height, width], contiguous; C is 1 with `grayscale`.
    """
    lead = screen.shape[:-3]
    picture = screen[..., crop_top:, :, :].movedim(-1, -3)  # [..., C, H - crop_top, W]
    picture = picture.reshape(-1, *picture.shape[-3:]) if len(lead) != 1 else picture
    small = interpolate(picture, size=(height, width), mode="bilinear", antialias=True)
    small = small.reshape(*lead, *small.shape[-3:])
    return gray(small) if grayscale else small.contiguous()


def gray(picture: Tensor) -> Tensor:
    """Turn RGB pictures into luminance: uint8 [..., 3, H, W] -> uint8 [..., 1, H, W]."""
    weight = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    return (picture.float() * weight).sum(-3, keepdim=True).round().to(torch.uint8)


def to_rgb(image: Tensor) -> Tensor:
    """Show images of any number of channels in colour: [..., C, H, W] -> [..., 3, H, W].

    One channel is grey; of stacked colour frames the newest is shown, of four channels the first
    three (without alpha), of any other stack the newest channel.
    """
    channels = image.shape[-3]
    if channels == 4 or (channels > 1 and channels % 3 == 0):
        first = 0 if channels == 4 else channels - 3
        return image[..., first : first + 3, :, :]
    return image[..., -1:, :, :].expand(*image.shape[:-3], 3, *image.shape[-2:])
