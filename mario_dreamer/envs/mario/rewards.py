"""Mario's reward: rules on successive raw frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mario_dreamer.envs.base import check_choice


@dataclass(frozen=True)
class MarioReward:
    """Pay Mario for progress, once per raw frame (an agent step sums its frames).

        dx     = x - previous x             0 where |dx| > warp: a pipe or a warp
        ticks  = previous clock - clock     a tick every 20 frames; never negative
        reward = scale * ( distance * (dx if backward else max(0, dx))
                         + time * ticks
                         + flag             once, on the frame that wins the stage
                         + death )          once, where the episode ends by the rules unwon

    Mario walks at most 3 px per frame, so `warp = 16` only ever excludes jumps of the map. Without
    `backward`, walking left is free and the way back is rewarded again: an agent could earn by
    walking back and forth (the time cost, 0.1 per 20 frames, does not prevent it). `backward=True`
    rewards any change of x, so the return of an episode telescopes to the distance covered.

    Args:
        kind: "distance", the rules above; "package", the emulator's own reward, clipped to
            [-15, 15] per frame (progress, clock, score, coins, power-ups, death); `scale` holds
            for both, the other options only for "distance".
        distance: per pixel.
        backward: whether walking left costs what walking right earns.
        flag: for winning the stage.
        death: for dying, also when the clock runs out; 0 or below.
        time: per tick of the game clock; 0 or below.
        scale: multiplies everything.
        warp: largest |dx| in pixels that counts as walking; 0 or above.

    Raises:
        ValueError: unknown kind, or a number out of its range.
    """

    kind: str = "distance"
    distance: float = 1.0
    backward: bool = False
    flag: float = 1000.0
    death: float = -15.0
    time: float = -0.1
    scale: float = 1.0
    warp: int = 16

    def __post_init__(self) -> None:
        check_choice("reward.kind", self.kind, ("distance", "package"))
        if self.death > 0 or self.time > 0 or self.warp < 0:
            raise ValueError(
                "env.reward: expected death <= 0, time <= 0 and warp >= 0; "
                f"got death={self.death}, time={self.time}, warp={self.warp}."
            )

    def __call__(
        self, track: Tensor, flag: Tensor, terminated: Tensor, package_reward: Tensor
    ) -> Tensor:
        """Return the reward of an agent step of K raw frames, float32 [..., 1].

        Args:
            track: x and clock before the step and after each of its frames, int64 [..., K + 1, 2].
            flag: whether the stage is won, bool [..., 1].
            terminated: whether the episode ended by the rules, bool [..., 1].
            package_reward: the emulator's own, summed over the frames, [..., 1].
        """
        if self.kind == "package":
            return self.scale * package_reward
        dx, ticks = track.double().diff(dim=-2).unbind(-1)  # [..., K]
        dx = dx.masked_fill(dx.abs() > self.warp, 0)
        if not self.backward:
            dx = dx.clamp(min=0)
        reward = self.distance * dx.sum(-1, keepdim=True)
        reward -= self.time * ticks.clamp(max=0).sum(-1, keepdim=True)
        if terminated.any():
            reward += torch.where(flag, self.flag, self.death) * terminated
        return (self.scale * reward).float()
