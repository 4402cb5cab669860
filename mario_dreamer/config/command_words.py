"""Read the words of a command line: a path, Hydra's flags, overrides, the jobs of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, pairwise

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

MULTIRUN = ("-m", "--multirun")
QUESTIONS = ("-c", "--cfg", "-i", "--info", "--hydra-help")  # Hydra answers, and nothing runs
WITH_WORD = (*QUESTIONS, "-p", "--package")  # the next word may belong to them
FLAGS = (*WITH_WORD, "--resolve", *MULTIRUN)
OTHER_FILES = ("-cd", "--config-dir", "-cp", "--config-path", "-cn", "--config-name")
SWEPT = 1000  # values of an option that are read


def with_bare_path(arguments: list[str], path: str, recording: str) -> list[str]:
    """Let a path that comes first stand for an option.

    Args:
        path: the option it stands for.
        recording: the option that a .json stands for.

    Examples:
        >>> with_bare_path(["latest", "port=9000"], "checkpoint", "recording")
        ["checkpoint='latest'", 'port=9000']
    """
    if not begins_with_path(arguments):
        return arguments
    option = recording if arguments[0].endswith(".json") else path
    quoted = arguments[0].replace("\\", "\\\\").replace("'", "\\'")
    return [f"{option}='{quoted}'", *arguments[1:]]


def begins_with_path(words: list[str]) -> bool:
    """Whether the first word is a path: neither an option nor a flag."""
    return bool(words) and "=" not in words[0] and not words[0].startswith(("-", "+", "~"))


def check_form(command: str, word: str, following: str) -> None:
    """Refuse `--steps 100` and words that are no NAME=VALUE.

    Args:
        following: the word after it, or "".

    Raises:
        ValueError: with the form that is right.
    """
    if word.startswith("~") or ("=" in word and word[0] not in "-="):
        return
    name = word.lstrip("-").partition("=")[0]
    bare = following if "=" not in following and not following.startswith("-") else ""
    value = word.partition("=")[2] or bare or "VALUE"
    word = word[:200]
    raise ValueError(
        f"{word!r}: options are typed as NAME=VALUE"
        + (f", here {name}={value}. " if word.startswith("-") and name else ". ")
        + f"See mario-dreamer {command} --help."
    )


def split_flags(words: list[str]) -> tuple[list[str], list[str]]:
    """Return Hydra's flags, each with the word that belongs to it, and the other words."""
    flags, rest = [], []
    for before, word in pairwise(["", *words]):
        is_its = before in WITH_WORD and "=" not in word and not word.startswith("-")
        (flags if word in FLAGS or is_its else rest).append(word)
    return flags, rest


def parse(words: Sequence[str]) -> list[Override]:
    """Read NAME=VALUE words as Hydra does.

    Raises:
        ValueError: one line that names the word.
    """
    found = []
    for word in words:
        try:
            found += OverridesParser.create().parse_overrides([word])
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{word!r} cannot be read ({reason}). Quote a value that holds spaces or signs: "
                "'name=\"a b\"'."
            ) from error
    return found


def jobs_of(words: list[str]) -> list[list[str]]:
    """Return jobs of a sweep in which each swept value comes up once.

    Raises:
        ValueError: a sweep has no value.
    """
    values = [_values(word) for word in words]
    first = [options[0] for options in values]
    jobs = [
        [*first[:place], value, *first[place + 1 :]]
        for place, options in enumerate(values) for value in options[1:]
    ]  # fmt: skip
    return [first, *jobs]


def _values(word: str) -> list[str]:
    """Every value of a swept option, `name=value`; of an interval its lower end."""
    override = parse([word])[0]
    if not override.is_sweep_override():
        return [word]
    if override.is_interval_sweep():  # a sweeper such as Optuna draws from it
        found: list[object] = [override.value().start]
    else:
        found = list(islice(override.sweep_string_iterator(), SWEPT))
    if not found:
        raise ValueError(f"{word}: this sweep has no value.")
    return [f"{word.partition('=')[0]}={value}" for value in found]
