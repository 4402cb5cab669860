"""Conversion of any observation to what the agent reads: uint8 images and float vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.nn.functional import pad
from torchrl.data import Composite, NonTensor, TensorSpec, Unbounded
from torchrl.envs import EnvBase, Transform

from mario_dreamer import keys
from mario_dreamer.envs.base import pixel_spec
from mario_dreamer.envs.screens import gray, shrink

RAW = "raw_"  # stands before a Gymnasium key: TorchRL would rename one called `state`

MAX_CHANNELS = 32  # of stacked frames
MIN_SIDE = 8  # a smaller grid is a table of numbers, not a picture
MULTIPLE = 16  # what the CNNs ask the sides to be divisible by
BOOKKEEPING = ("is_init", "step_count", "episode_reward", keys.ACTION_MASK)


@dataclass(frozen=True)
class ImageView:
    """How one image observation becomes uint8 [C, H, W].

    Args:
        layout: "HW", "HWC", "CHW", or "KHWC" for K stacked frames.
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
        layout = _layout(shape)
        if layout is None or spec.dtype in (torch.bool, torch.int8):
            return None
        low, high = _range(spec)
        if layout == "HW" and (spec.dtype != torch.uint8 or min(shape) < 16):
            if low != 0 or high not in (1.0, 255.0, 65535.0) or min(shape) < 16:
                return None
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(
                f"env: observation {name!r} {list(shape)} {spec.dtype} looks like an image, but its "
                "space declares no range to scale it by. Declare one, such as Box(0, 1, ...), or "
                "leave it out by env.observations."
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
    """[..., *layout] -> [..., H, W, C]."""
    if layout == "HW":
        return image.unsqueeze(-1)
    if layout == "CHW":
        return image.movedim(-3, -1)
    if layout == "KHWC":
        return image.movedim(-4, -2).flatten(-2)
    return image


def _layout(shape: tuple[int, ...]) -> str | None:
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
    return None


def is_image_shape(shape: Sequence[int]) -> bool:
    """Whether dimensions can be those of an image of numbers with a range."""
    return _layout(tuple(shape)) is not None


def _range(spec: TensorSpec) -> tuple[float, float]:
    """Return the smallest and the largest value that a spec declares."""
    if not spec.dtype.is_floating_point and isinstance(spec, Unbounded):
        limits = torch.iinfo(spec.dtype)
        return float(limits.min), float(limits.max)
    space = getattr(spec, "space", None)
    if isinstance(spec, Unbounded) or not hasattr(space, "low"):
        return -math.inf, math.inf
    return float(space.low.min()), float(space.high.max())


def sources_of(env: EnvBase) -> dict[NestedKey, TensorSpec]:
    """Return what an env observes, by key and without N; bookkeeping and info left out."""
    leaves = env.observation_spec.items(include_nested=True, leaves_only=True)
    found = {
        key: spec for key, spec in leaves if key not in BOOKKEEPING and key[0] != keys.STATS
    }
    ours = {key: spec for key, spec in found.items() if keys.is_observation(key)}
    batch = len(env.batch_size)
    return {key: spec[(0,) * batch] for key, spec in (ours or found).items()}


def _name(key: NestedKey) -> str:
    return (key if isinstance(key, str) else "_".join(key)).removeprefix(RAW)


def is_chosen(name: str, wanted: Sequence[str] | None) -> bool:
    """Whether a name fits one of the patterns; None fits all."""
    return wanted is None or any(fnmatch(name, pattern) for pattern in wanted)


class ToObservations(Transform):
    """Turn every observation of an env into an image (`pixels`) or a vector (`vector`).

    An image, see `ImageView`, becomes uint8 [C, H, W], scaled by its declared range. Everything
    else becomes a float32 vector: numbers as they are, discrete ones as the one-hot that TorchRL
    makes of them. A single image is called `pixels` and a single vector `vector`; of several,
    each keeps its name: `pixels_left`, `vector_joints`.

    Args:
        env: the env that is to be transformed, alone or [N] of them.
        image_size: side, (height, width), or None; see `ImageView`.
        grayscale: one channel instead of three.
        wanted: patterns of the names to learn from; None: all.

    Attributes:
        sources: agent's key -> (env's key, its shape, its type), for the log.

    Raises:
        ValueError: nothing to learn from, or an observation that is none: text, no range.
    """

    def __init__(
        self,
        env: EnvBase,
        image_size: int | Sequence[int] | None = 64,
        grayscale: bool = False,
        wanted: Sequence[str] | None = None,
    ) -> None:
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        size = None if size is None else (int(size[0]), int(size[1]))
        found = sources_of(env)
        chosen = {key: spec for key, spec in found.items() if is_chosen(_name(key), wanted)}
        if not chosen:
            raise ValueError(
                f"env.observations={list(wanted or [])}: none of the observations {list(map(_name, found))} "
                "is learned from. Name at least one of them."
            )
        views: dict[NestedKey, ImageView | None] = {}
        for key, spec in chosen.items():
            if isinstance(spec, NonTensor):
                raise ValueError(
                    f"env: observation {_name(key)!r}: {spec} is no tensor and cannot be learned "
                    "from. Leave it out by env.observations."
                )
            views[key] = ImageView.of(_name(key), spec, size, grayscale)
        names = _agent_names(views)
        super().__init__(in_keys=list(views), out_keys=[names[key] for key in views])
        self.views = views
        self.unused = [key for key in found if key not in views]
        self.event_dims = {key: len(spec.shape) for key, spec in chosen.items()}
        self.sources = {
            names[key]: (_name(key), tuple(spec.shape), str(spec.dtype).removeprefix("torch."))
            for key, spec in chosen.items()
        }

    def _call(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        values = {}
        for key, out_key in zip(self.in_keys, self.out_keys, strict=True):
            value, view = next_tensordict.get(key), self.views[key]
            values[out_key] = self._vector(key, value) if view is None else view(value)
        gone = [key for key in (*self.in_keys, *self.unused) if key in next_tensordict]
        return next_tensordict.exclude(*gone, inplace=True).update(values)

    def _vector(self, key: NestedKey, value: Tensor) -> Tensor:
        dims = self.event_dims[key]
        flat = value.unsqueeze(-1) if dims == 0 else value.flatten(value.ndim - dims)
        return flat.float()

    def _reset(
        self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase
    ) -> TensorDictBase:
        return self._call(tensordict_reset)

    def transform_observation_spec(self, observation_spec: Composite) -> Composite:
        """Describe the images and vectors; what they were made of is gone."""
        specs, batch = {}, tuple(observation_spec.shape)
        for key, out_key in zip(self.in_keys, self.out_keys, strict=True):
            view, shape = self.views[key], observation_spec[key].shape[len(batch) :]
            one = Unbounded([shape.numel()]) if view is None else pixel_spec(*view.out_shape)
            specs[out_key] = one.expand(*batch, *one.shape)
        for key in (*self.in_keys, *self.unused):
            del observation_spec[key]
        for key, spec in list(observation_spec.items()):
            if isinstance(spec, Composite) and not list(spec.keys(True, True)):
                del observation_spec[key]
        observation_spec.update(specs)
        return observation_spec


def _agent_names(views: dict[NestedKey, ImageView | None]) -> dict[NestedKey, str]:
    """Give each observation the agent's name for it."""
    names: dict[NestedKey, str] = {}
    for kind in (keys.PIXELS, keys.VECTOR):
        mine = [key for key, view in views.items() if (view is None) == (kind == keys.VECTOR)]
        for key in mine:
            own = _name(key).removeprefix(f"{kind}_").replace(".", "_")
            names[key] = kind if len(mine) == 1 else f"{kind}_{own}"
    return names
