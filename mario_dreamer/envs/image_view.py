"""Conversion of one image observation, in any layout and range, to uint8 [C, H, W]."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchrl.data import TensorSpec, Unbounded

from mario_dreamer.envs.screens import gray, shrink

MAX_CHANNELS = 32  # of stacked frames
MIN_SIDE = 8  # a smaller grid is a table of numbers, not a picture
GRID_RANGES = ((0, 1), (-1, 1), (0, 255), (0, 65535))  # other grids of numbers are no pictures
# What to do about an observation that cannot be learned from.
LEAVE_OUT = (
    "Or leave it out: with env=gym by naming the others in env.observations, in your own env by "
    "torchrl.envs.ExcludeTransform."
)
MULTIPLE = 16  # what the CNNs ask the sides to be divisible by


@dataclass(frozen=True)
class ImageView:
    """How one image observation becomes uint8 [C, H, W].

    Args:
        layout: "HW", "HWC", "CHW", or "KHWC" and "KCHW" for K stacked frames.
        shape: as the env gives it.
        low, high: the declared range, mapped to 0 and 255.
        image_size: (H, W) to resize to; None: the env's own size, padded with black at the lower
            and right edge until 16 divides both sides.
        grayscale: turn three channels into luminance.
    """

    layout: str
    shape: tuple[int, ...]
    low: float
    high: float
    image_size: tuple[int, int] | None = None
    grayscale: bool = False

    @classmethod
    def of(
        cls,
        name: str,
        spec: TensorSpec,
        image_size: tuple[int, int] | None,
        grayscale: bool,
    ) -> ImageView | None:
        """Return the view of an observation, or None where it is a vector.

        Args:
            spec: of a single env, without N.

        Raises:
            ValueError: it has the shape of an image and no range to scale it by.
        """
        shape = tuple(spec.shape)
        layout = layout_of(shape)
        if layout is None or spec.dtype in (torch.bool, torch.int8):
            return None
        low, high = _range(spec)
        is_grey = spec.dtype == torch.uint8 or (low, high) in GRID_RANGES
        if layout == "HW" and (min(shape) < 2 * MIN_SIDE or not is_grey):
            return None
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(
                f"env: observation {name!r} {list(shape)} {spec.dtype} looks like an image, but its "
                "space declares no range to scale it by. Declare one, such as Box(0, 1, ...). "
                f"{LEAVE_OUT}"
            )
        return cls(layout, shape, low, high, image_size, grayscale)

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the result."""
        height, width = (self.shape[self.layout.index(side)] for side in "HW")
        channels = math.prod(self.shape) // (height * width)
        if self.image_size is not None:
            height, width = self.image_size
        else:
            height, width = (-(-side // MULTIPLE) * MULTIPLE for side in (height, width))
        return (1 if self.grayscale and channels == 3 else channels), height, width

    @property
    def is_only_resized(self) -> bool:
        """Whether bytes [H, W, C] change in nothing but their size."""
        resized = self.image_size is not None and self.layout == "HWC"
        return resized and (self.low, self.high) == (0, 255) and not self.grayscale

    def __call__(self, image: Tensor) -> Tensor:
        """Convert [..., *shape] of any number type to uint8 [..., C, H, W]."""
        if image.dtype != torch.uint8 or (self.low, self.high) != (0, 255):
            share = (image.float() - self.low) / (self.high - self.low)
            image = share.clamp(0, 1).mul(255).round().to(torch.uint8)
        image = _channels_last(image, self.layout)
        _, height, width = self.out_shape
        if self.image_size is not None and tuple(image.shape[-3:-1]) != (height, width):
            image = shrink(image, height, width)
        else:
            image = image.movedim(-1, -3)
            image = pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]))
        return (gray(image) if self.grayscale and image.shape[-3] == 3 else image).contiguous()


def _channels_last(image: Tensor, layout: str) -> Tensor:
    """[..., *layout] -> [..., H, W, C], all channels of a stacked frame before the next frame's."""
    first = image.ndim - len(layout)
    order = [first + layout.index(side) for side in "HWKC" if side in layout]
    return image.unsqueeze(-1).permute(*range(first), *order, -1).flatten(first + 2)


def layout_of(shape: tuple[int, ...]) -> str | None:
    """Read the meaning of the dimensions from their sizes; None where it is no image."""
    sides, few = (lambda *n: min(n) >= MIN_SIDE), (lambda n: 1 <= n <= MAX_CHANNELS)
    if len(shape) == 2 and sides(*shape):
        return "HW"
    if len(shape) == 3 and sides(*shape[:2]) and few(shape[2]) and shape[2] <= min(shape[:2]):
        return "HWC"
    if len(shape) == 3 and sides(*shape[1:]) and few(shape[0]):
        return "CHW"
    if len(shape) == 4 and sides(*shape[1:3]) and shape[3] in (1, 3, 4) and few(shape[0]):
        return "KHWC"
    if len(shape) == 4 and sides(*shape[2:]) and shape[1] in (1, 3, 4) and few(shape[0]):
        return "KCHW"
    return None


def _range(spec: TensorSpec) -> tuple[float, float]:
    """Return the smallest and the largest value that a spec declares."""
    if spec.dtype == torch.uint8 and isinstance(spec, Unbounded):
        return 0.0, 255.0
    space = getattr(spec, "space", None)
    if isinstance(spec, Unbounded) or not hasattr(space, "low"):
        return -math.inf, math.inf
    return float(space.low.min()), float(space.high.max())
