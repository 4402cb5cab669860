"""Correct the flags at the edges of a sampled window."""

from __future__ import annotations

from tensordict import TensorDictBase
from torchrl.envs.transforms import Transform

from mario_dreamer import keys


class ToWindows(Transform):
    """Correct is_first and is_last of windows of records [B, T]; applied by `sample`.

    * A record right before an is_first is the last of its episode, even if a crash or a
      resume cut the episode before the environment could say so.
    * Without stored latents the state before the window is unknown: its first record is made
      an is_first, with no previous action. (Its reward stays: the reward head sees z_0.)

    Args:
        latents: windows carry prev_deter and prev_stoch, so their first record stays as it is.
    """

    def __init__(self, latents: bool = False) -> None:
        super().__init__()
        self.latents = latents

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Correct records [B, T] in place; `sample` has gathered them freshly."""
        is_first = tensordict[keys.IS_FIRST]
        tensordict[keys.IS_LAST][:, :-1] |= is_first[:, 1:]
        if not self.latents:
            is_first[:, 0] = True
            tensordict[keys.PREV_ACTION][:, 0] = 0
        return tensordict
