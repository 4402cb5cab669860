"""Conversion of any observation to what the agent reads: uint8 images and float vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.data import Composite, NonTensor, TensorSpec, Unbounded
from torchrl.envs import EnvBase, Transform

from mario_dreamer import keys
from mario_dreamer.envs.base import pixel_spec
from mario_dreamer.envs.image_view import LEAVE_OUT, ImageView

RAW = "raw_"  # stands before a Gymnasium key: TorchRL would rename one called `state`

BOOKKEEPING = ("is_init", "step_count", "episode_reward", keys.ACTION_MASK)


def sources_of(env: EnvBase) -> dict[NestedKey, TensorSpec]:
    """Return what an env observes, by key and without N; bookkeeping and info left out."""
    leaves = env.observation_spec.items(include_nested=True, leaves_only=True)
    one = (0,) * len(env.batch_size)
    return {
        key: spec[one] for key, spec in leaves if key not in BOOKKEEPING and key[0] != keys.STATS
    }


def _name(key: NestedKey) -> str:
    return (key if isinstance(key, str) else "_".join(key)).removeprefix(RAW)


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
    ) -> None:
        sides = [image_size] * 2 if isinstance(image_size, int) else image_size
        if sides is not None and (len(sides) != 2 or min(sides) < 1):
            raise ValueError(
                f"env.image_size={list(sides)}: expected a side, [height, width], or null."
            )
        size = None if sides is None else (int(sides[0]), int(sides[1]))
        sources = sources_of(env)
        if not sources:
            raise ValueError("env: it observes nothing that can be learned from.")
        views: dict[NestedKey, ImageView | None] = {}
        for key, spec in sources.items():
            if isinstance(spec, NonTensor):
                raise ValueError(
                    f"env: observation {_name(key)!r}: {spec} is no tensor and cannot be learned "
                    f"from. Make numbers of it. {LEAVE_OUT}"
                )
            views[key] = ImageView.of(_name(key), spec, size, grayscale)
        names = _agent_names(views)
        super().__init__(in_keys=list(views), out_keys=[names[key] for key in views])
        self.views = views
        self.event_dims = {key: len(spec.shape) for key, spec in sources.items()}
        self.sources = {
            names[key]: (_name(key), tuple(spec.shape), str(spec.dtype).removeprefix("torch."))
            for key, spec in sources.items()
        }

    def _call(self, next_tensordict: TensorDictBase) -> TensorDictBase:
        values = {}
        for key, out_key in zip(self.in_keys, self.out_keys, strict=True):
            value, view = next_tensordict.get(key), self.views[key]
            values[out_key] = self._vector(key, value) if view is None else view(value)
        return next_tensordict.exclude(*self.in_keys, inplace=True).update(values)

    def _vector(self, key: NestedKey, value: Tensor) -> Tensor:
        flat = value.unsqueeze(-1).flatten(value.ndim - self.event_dims[key])
        most = torch.finfo(torch.float32).max  # a float64 may be larger
        return flat.float().clamp(-most, most)

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
        for key in self.in_keys:
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
    check_unique(list(names.values()))
    return names


def check_unique(names: Sequence[str]) -> None:
    """Raise ValueError where two observations would get one name: one of them would be lost."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"env: two observations are called {twice[0]!r} here. Rename one in the env.")
