"""The kinds of rules for an option: a number in a range, words, and what else may be typed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ENDLESS = 10**15  # more steps than anybody can wait for


@dataclass(frozen=True)
class Rule:
    """What an option may be.

    Args:
        text: in words.
        fits: whether a single value is one.
        kind: "number", "word", "switch", or "text": then a number that is typed is meant as text.
        none: null is allowed too.
        many: a list of such values is allowed too.
    """

    text: str
    fits: Callable[[Any], bool]
    kind: str
    none: bool = False
    many: bool = False

    def allows(self, value: Any) -> bool:
        """Whether an option may have this value."""
        if value is None:
            return self.none
        if isinstance(value, list) and self.many:
            return bool(value) and all(self.allows(item) for item in value)
        return self.fits(value)

    def __str__(self) -> str:
        return self.text + (", or null" if self.none else "")


def number(
    least: float = 0, most: float = math.inf, whole: bool = False, above: bool = False,
    none: bool = False,
) -> Rule:  # fmt: skip
    """A range whose ends are allowed; with `above`, `least` itself is too little."""
    text = f"a {'whole ' if whole else ''}number, {'above' if above else 'at least'} {least:g}"
    text += "" if most >= ENDLESS else f" and at most {most:.10g}"

    def fits(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            return False
        enough = value > least if above else value >= least
        return math.isfinite(value) and enough and value <= most

    return Rule(text, fits, "number", none)


def whole_number(least: int, most: int = ENDLESS, none: bool = False) -> Rule:
    """A range of whole numbers."""
    return number(least, most, whole=True, none=none)


def words(pattern: str, text: str, kind: str = "word", **options: bool) -> Rule:
    """Words that match a regular expression as a whole."""

    def fits(value: Any) -> bool:
        word = str(value).lower() if isinstance(value, bool) else str(value)
        single = not isinstance(value, dict | list)
        return single and bool(re.fullmatch(pattern, word, re.DOTALL))

    return Rule(text, fits, kind, **options)


def one_of(*choices: str) -> Rule:
    """One of some words."""
    return words("|".join(map(re.escape, choices)), f"one of {', '.join(choices)}")
