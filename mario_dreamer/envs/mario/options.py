"""MarioOptions: every option of Mario, checked once, and the transforms that they ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor
from torch.nn.functional import one_hot
from torchrl.envs import Transform, UnaryTransform

from mario_dreamer.envs.base import check_at_least_one, check_choice
from mario_dreamer.envs.mario.buttons import NoopStart, PressButtons
from mario_dreamer.envs.mario.emulator import SCREEN, actions_of, stages_of
from mario_dreamer.envs.mario.rewards import MarioReward
from mario_dreamer.envs.mario.transforms import DeathScreen, Limits, PayReward
from mario_dreamer.envs.screens import shrink
from mario_dreamer.keys import VECTOR


@dataclass(frozen=True)
class MarioOptions:
    """What an agent plays, observes and is rewarded for; the same for every backend.

    Args:
        stage: "w-s", world 1 to 8, stage 1 to 4; or a list of those, or "all". Which one is played
            is in the TensorDict: `stage_index`, int64 [N, 1].
        stage_order: the stage of an env's next episode: "balanced", the one with the fewest frames
            so far; "turn", one after the other; "random". Env i begins with stage i.
        show_stage: also show it to the agent: `vector`, one-hot float32 [N, number of stages].
        action_set: "simple" (7), "right_only" (5), "complex" (12), or a list of names.
        action_repeat: raw frames per agent step.
        sticky, sticky_unit, show_executed: see `PressButtons`.
        random_noops: opening raw frames without a button, 0 to this many.
        image_size: side of the square picture.
        grayscale: one channel instead of three.
        crop_top: rows cut off the raw screen first; 32 are the score bar.
        max_pool: take the brighter of the last two raw frames of each step.
        death_screen: last picture of an episode that ends in a death: "game", the frame in which
            it happens, or "black", see `DeathScreen`.
        reward: the rules, called as `MarioReward` is; None: `MarioReward()`.
        max_steps: agent steps until truncation; None: never.
        stall_limit: agent steps without a new furthest x until truncation; None: never.

    Raises:
        ValueError: an option out of its range, in one line.
    """

    stage: str | Sequence[str] = "1-1"
    stage_order: str = "balanced"
    show_stage: bool = False
    action_set: str | Sequence[str] = "simple"
    action_repeat: int = 4
    sticky: float = 0.0
    sticky_unit: str = "frame"
    show_executed: bool = False
    random_noops: int = 0
    image_size: int = 64
    grayscale: bool = False
    crop_top: int = 0
    max_pool: bool = True
    death_screen: str = "game"
    reward: MarioReward | Callable[..., Tensor] | None = None
    max_steps: int | None = 27000
    stall_limit: int | None = None

    def __post_init__(self) -> None:
        _ = self.stages, self.actions
        check_choice("stage_order", self.stage_order, ("balanced", "turn", "random"))
        check_choice("sticky_unit", self.sticky_unit, ("frame", "step"))
        check_choice("death_screen", self.death_screen, ("game", "black"))
        if not (self.reward is None or callable(self.reward)):
            raise ValueError(f"env.reward: expected a MarioReward, or null; got {self.reward!r}.")
        counts = ("action_repeat", "max_steps", "stall_limit")
        check_at_least_one(**{name: getattr(self, name) for name in counts})
        if self.image_size < 8 or not 0 <= self.crop_top < SCREEN[0]:
            raise ValueError(
                f"env: expected image_size >= 8 and 0 <= crop_top < {SCREEN[0]}; "
                f"got image_size={self.image_size}, crop_top={self.crop_top}. "
                "Set env.image_size=64 env.crop_top=0."
            )
        if self.random_noops < 0 or not 0.0 <= self.sticky <= 1.0:
            raise ValueError(
                "env: expected random_noops >= 0 and 0 <= sticky <= 1; "
                f"got random_noops={self.random_noops}, sticky={self.sticky}."
            )

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages, "w-s" each."""
        return stages_of(self.stage)

    @property
    def actions(self) -> tuple[str, ...]:
        """The names of the actions, [A]."""
        return actions_of(self.action_set)

    @property
    def picture(self) -> Callable[[Tensor], Tensor]:
        """Makes the agent's picture, uint8 [..., C, S, S], of screens [..., 240, 256, 3]."""
        side = self.image_size
        options = {"crop_top": self.crop_top, "grayscale": self.grayscale}
        return partial(shrink, height=side, width=side, **options)

    def transforms(self) -> list[Transform]:
        """Make the stack on top of an env of rows of `action_repeat` raw frames."""
        frames, rules = self.action_repeat, self.reward or MarioReward()
        sticky = (self.sticky, self.sticky_unit, self.show_executed)
        stack: list[Transform] = [
            PayReward(rules),
            Limits(self.max_steps, self.stall_limit),
            PressButtons(self.actions, frames, *sticky),
        ]
        if self.random_noops:
            stack.insert(0, NoopStart(self.random_noops, frames))
        if self.show_stage:
            count = len(self.stages)
            show = UnaryTransform(
                ["stage_index"], [VECTOR], fn=lambda i: one_hot(i.squeeze(-1), count).float()
            )
            stack.append(show)
        if self.death_screen == "black":
            stack.append(DeathScreen())
        return stack
