"""Take a picture of every env as people see it."""

from __future__ import annotations

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase

from mario_dreamer import keys
from mario_dreamer.envs.screens import to_rgb
from mario_dreamer.envs.torchrl import innermost

NO_PICTURE = (
    "this env gives no picture: it observes none and render() draws none. Make it with "
    'render_mode="rgb_array" where it has that; evaluate and report need no picture'
)


def film(env: EnvBase, state: TensorDictBase) -> Tensor | None:
    """Return a picture of every env, uint8 [N, 3, H, W]; None where there is none.

    That is the raw screen where the env has one (`screens`), else the first image that the agent
    observes, else what the env's `render()` draws.

    Args:
        env: [N] envs.
        state: [N], of this moment, with the observation.
    """
    inner = innermost(env)
    if hasattr(type(inner), "screens"):
        return inner.screens().permute(0, 3, 1, 2)  # [N, H, W, 3] -> [N, 3, H, W]
    image = keys.first_image(state.keys())
    if image is not None:
        return to_rgb(state[image]).cpu()
    try:
        drawn = inner.render()
    except Exception:  # an env without render(), or one that cannot: filming never stops a run
        return None
    pictures = np.asarray(drawn)
    if pictures.ndim == 3:
        pictures = pictures[None]
    if pictures.ndim != 4 or pictures.dtype != np.uint8 or pictures.shape[-1] != 3:
        return None
    return torch.from_numpy(pictures.copy()).permute(0, 3, 1, 2)


def film_first(env: EnvBase, state: TensorDictBase) -> Tensor | None:
    """Return the picture of env 0 alone, [1, 3, H, W]: only its film is kept."""
    pictures = film(env, state)
    return None if pictures is None else pictures[:1]
