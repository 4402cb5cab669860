"""From keys that a person holds to one of the actions that the agent has."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["BUTTONS", "nearest_action"]

# How much it matters that a held button is pressed, where not all can be: a jump most of all.
BUTTONS = {"A": 8, "right": 4, "left": 4, "down": 3, "up": 3, "B": 1}


def nearest_action(held: Collection[str], names: Sequence[str]) -> int:
    """Find the action that presses the most important of the held buttons, and no other.

    A digit names an action by its index, for worlds whose actions are not buttons.

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
    best, score = 0, -1
    for index, name in enumerate(names):
        pressed = set() if name == "noop" else set(name.split("+"))
        if pressed <= set(held):
            worth = sum(BUTTONS.get(button, 0) for button in pressed)
            if worth > score:
                best, score = index, worth
    return best
