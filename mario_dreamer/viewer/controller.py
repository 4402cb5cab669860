"""From the keys that a person holds to an action of the agent's action set."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# How much it matters that a held button is pressed, where not all can be: a jump most of all.
BUTTONS = {"A": 8, "right": 4, "left": 4, "down": 3, "up": 3, "B": 1}
# Held buttons push a continuous action to its ends, dimension by dimension.
PUSHES = (("left", "right"), ("down", "up"), ("B", "A"))


def nearest_action(held: Collection[str], names: Sequence[str]) -> int:
    """Find the action that presses the most important of the held buttons, and no other.

    A digit names an action by its index, for envs whose actions are not buttons.

    Args:
        held: buttons, such as {"right", "A"}, or digits.
        names: of the agent's actions, such as "right+A" or "noop", [A].

    Returns:
        The action's index. Nothing fitting: the one that presses nothing, or the first.

    Examples:
        >>> nearest_action({"left", "A"}, ["noop", "right", "right+A", "A", "left"])
        3
    """
    for name in held:
        if name.isdecimal() and int(name) < len(names):
            return int(name)

    def score(index: int) -> int:
        pressed = set() if names[index] == "noop" else set(names[index].split("+"))
        return sum(BUTTONS.get(button, 0) for button in pressed) if pressed <= set(held) else -1

    return max(range(len(names)), key=score)


@dataclass(frozen=True)
class ActionSet:
    """The actions of an env.

    Args:
        names: of each entry of the action vector, [A].
        low, high: bounds of each entry of a continuous action, [A]; empty: discrete actions.
        choices: options of each choice of a discrete action, their sum is A; 1: on or off.
            Empty: a single choice.
    """

    names: tuple[str, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    choices: tuple[int, ...] = ()

    @property
    def is_continuous(self) -> bool:
        """Whether an action is a vector of numbers instead of a choice."""
        return bool(self.low)

    @property
    def buttons(self) -> list[str]:
        """Buttons, or digits, that make a difference to the env."""
        if self.is_continuous:
            return [button for pair in PUSHES[: len(self.names)] for button in pair]
        pressed = {button for name in self.names for button in name.split("+")}
        known = [button for button in BUTTONS if button in pressed]
        return known or [str(index) for index in range(min(10, len(self.names)))]

    def one_hot(self, index: int) -> Tensor:
        """Return the action of an index, [A]."""
        return torch.eye(len(self.names))[index]

    def action_of(self, held: Collection[str]) -> Tensor:
        """Return the action that held buttons ask for, [A]."""
        if not self.is_continuous and not self.choices:
            return self.one_hot(nearest_action(held, self.names))
        if not self.is_continuous:
            action = torch.tensor([float(str(index) in held) for index in range(len(self.names))])
            for part in action.split(self.choices):
                if len(part) > 1 and part.sum() != 1:  # a choice without one: its first option
                    part.copy_(torch.eye(len(part))[0])
            return action
        action = torch.tensor([(low + high) / 2 for low, high in zip(self.low, self.high)])
        for index, (down, up) in enumerate(PUSHES[: len(self.names)]):
            if (down in held) != (up in held):
                action[index] = self.low[index] if down in held else self.high[index]
        return action
