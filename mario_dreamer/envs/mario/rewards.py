"""What Mario is paid for: pure rules on two successive raw frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS = ("distance", "package")


@dataclass(frozen=True)
class MarioReward:
    """Pay Mario for getting on, once per raw frame (an agent step sums its frames).

        dx     = x - previous x             0 where |dx| > warp: a pipe or a warp is no walk
        ticks  = previous clock - clock     a tick every 20 frames; never negative
        reward = scale * ( distance * (dx if backward else max(0, dx))
                         + time * ticks
                         + flag             once, on the frame that wins the stage
                         + death )          once, where the episode ends by the rules unwon

    Walking costs at most 3 px a frame, so `warp = 16` only ever stops jumps of the map. Without
    `backward`, walking left is free and the way back is paid again: an agent could earn by
    pacing to and fro (the time cost, 0.1 per 20 frames, does not stop it). `backward=True` pays
    the change of x, so the return of an episode telescopes to the distance covered.

    Args:
        kind: "distance", the rules above; "package", the emulator's own reward, clipped to
            [-15, 15] per frame (progress, clock, score, coins, power-ups, death); `scale` holds
            for both, the other options only for "distance".
        distance: per pixel.
        backward: whether walking left costs what walking right pays.
        flag: for winning the stage.
        death: for dying, also when the clock runs out; 0 or below.
        time: per tick of the game clock; 0 or below.
        scale: multiplies everything.
        warp: largest |dx| in pixels that counts as walking.

    Raises:
        ValueError: unknown kind.
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
        if self.kind not in KINDS:
            raise ValueError(
                f"env.reward.kind: got {self.kind!r}, expected one of {list(KINDS)}. "
                "Set env.reward.kind=distance."
            )

    def __call__(
        self,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        terminated: bool,
        package_reward: float,
    ) -> float:
        """Return the reward of one raw frame.

        Args:
            before: facts of the frame before: `x_pos` and `time`.
            after: facts of this frame: `x_pos`, `time` and `flag_get`.
            terminated: the episode ended by the rules on this frame.
            package_reward: what the emulator itself paid for this frame.
        """
        if self.kind == "package":
            return self.scale * package_reward
        dx = after["x_pos"] - before["x_pos"]
        if abs(dx) > self.warp or (dx < 0 and not self.backward):
            dx = 0
        ticks = max(0, before["time"] - after["time"])
        reward = self.distance * dx + self.time * ticks
        if terminated:
            reward += self.flag if after["flag_get"] else self.death
        return self.scale * reward
