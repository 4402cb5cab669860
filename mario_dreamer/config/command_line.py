"""Check a command line against the YAML files, before torch is imported."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from pathlib import Path

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from mario_dreamer.config import limits
from mario_dreamer.config.combinations import check_together, is_read
from mario_dreamer.config.command_words import (
    MULTIRUN,
    OTHER_FILES,
    QUESTIONS,
    begins_with_path,
    check_form,
    jobs_of,
    parse,
    split_flags,
    with_bare_path,
)


def _folder() -> Path:
    """The folder of the YAML files: inside the package once installed, next to it in a checkout."""
    inside = Path(__file__).resolve().parents[1] / "configs"
    return inside if inside.is_dir() else inside.parents[1] / "configs"


CONFIGS = _folder()
# Command with a file in configs/ -> the options that a path which comes first stands for: any
# path, and a .json.
CONFIGURED = {
    "train": ("resume", "resume"),
    "view": ("checkpoint", "recording"),
    **dict.fromkeys(("evaluate", "play", "dream", "report", "export"), ("checkpoint",) * 2),
}
COMPOSED = 8  # jobs of a sweep
SEARCH = "hydra.searchpath"  # folders with files of a user's own
PATHS = ("resume", "init_from", "checkpoint", "recording", "compare")
WORDS = ("latest", "best", "none", "shipped", "auto")  # instead of a path


def checked_words(command: str, typed: list[str]) -> list[str]:
    """Return the words for Hydra; refuse in one line what cannot be right.

    Args:
        command: one of `CONFIGURED`.
        typed: what follows it on the command line.

    Raises:
        ValueError: naming the option, what was given, what it may be and what is near.
    """
    if begins_with_path(typed) and not _is_there(typed[0]):
        raise ValueError(_no_path(command, typed[0]))
    words = with_bare_path(typed, *CONFIGURED[command])
    if any(word.partition("=")[0] in OTHER_FILES for word in words):
        return words  # files that are not known here
    flags, words = split_flags(words)
    for number, word in enumerate(words):
        check_form(command, word, next(iter(words[number + 1 :]), ""))
    parsed = parse(words)
    _check_paths(parsed)
    ready = [_for_hydra(command, override, parsed) for override in parsed]
    sweeps = any(flag in MULTIRUN for flag in flags)
    if sweeps and os.environ.get("WORLD_SIZE", "1") != "1":
        raise ValueError("--multirun: torchrun starts one run; type torchrun once for each job.")
    jobs = jobs_of(ready) if sweeps else [ready]
    if len(jobs) > 1 and (name := next((x for x in jobs[0] if x.startswith("name=")), None)):
        if name in jobs[1] and "$" not in name:
            raise ValueError(f"{name}: each run of a sweep has a folder of its own; '{name}-${{seed}}'.")
    for job in jobs:  # first what was typed, by the name that was typed
        values = [o for o in parse(job) if not (o.is_sweep_override() or o.is_delete())]
        plain = {o.key_or_group: o.value() for o in values if "${" not in o.input_line}
        limits.check_numbers(plain, command)
    if command != "train" or not _resumes(parsed):  # else they are the stored configuration's
        for job in jobs[:COMPOSED]:
            cfg = compose_config(command, job)
            limits.check_numbers(cfg, command)
            _check_groups(command, job)
            check_together(command, cfg)
    return [*flags, *ready]


def answered(command: str, words: list[str]) -> bool:
    """Let Hydra answer `--cfg job`, `--info` and the like, without torch and without a run.

    Args:
        words: of `checked_words`.

    Returns:
        whether something was asked.
    """
    if not any(word in QUESTIONS for word in words):
        return False
    sys.argv = [f"mario-dreamer {command}", *words]
    hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=command)(lambda cfg: None)()
    return True


def compose_config(command: str, words: list[str]) -> DictConfig:
    """Compose configs/COMMAND.yaml with choices and values as typed.

    Raises:
        ValueError: one line that says what does not fit, and what is near.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            return compose(command, words)
        except Exception as error:  # Hydra, OmegaConf and YAML have many words for a wrong option
            raise ValueError(_explained(command, words, error)) from error


def _check_paths(parsed: list[Override]) -> None:
    """Refuse a run or a file that is not there; what is read from elsewhere is not known yet."""
    for override in parsed:
        place = None if override.is_sweep_override() else override.value()
        is_path = override.key_or_group in PATHS and isinstance(place, str) and "${" not in place
        if is_path and not _is_there(place):
            near = _near_run(place)
            raise ValueError(f"{override.input_line}: no run, checkpoint or file is there. {near}")


def _is_there(place: str) -> bool:
    with contextlib.suppress(OSError):  # a name that is too long
        return place in WORDS or Path(place).exists()
    return False


def _near_run(word: str) -> str:
    is_name = _is_there(f"runs/{word}")
    return f"Did you mean runs/{word}?" if is_name else "mario-dreamer runs lists yours."


def _no_path(command: str, word: str) -> str:
    """What to say of a bare word that is no path, such as the name of an experiment."""
    near = _near(word, _options("experiment")) if command == "train" else None
    hint = f"Did you mean experiment={near}?" if near else _near_run(word)
    return (
        f"no run, checkpoint or file is at {word[:200]!r}; other options are typed as NAME=VALUE. {hint}"
    )


def _check_groups(command: str, words: list[str]) -> None:
    """Refuse a single value for a group of options, such as env.reward=x, ~GROUP, several files
    for a group, and an added option that nothing reads.

    What has a rule by its full name is no group.
    """
    parsed = parse(words)
    choices = [o for o in parsed if _options(o.key_or_group)]
    for override in parsed:
        if override.is_delete() and (override in choices or "." not in override.key_or_group):
            raise ValueError(f"{override.input_line}: this option cannot be left out; see --help.")
    for override in choices:
        if isinstance(override.value(), list):
            options = ", ".join(_options(override.key_or_group))
            raise ValueError(f"{override.input_line}: give one of {options}.")
    added = [o for o in parsed if (o.is_add() or o.is_force_add()) and (o.package or o not in choices)]
    values = [o for o in parsed if o not in choices and o.key_or_group not in limits.RULES]
    if not added and not values:
        return
    plain = compose_config(command, _alone([o for o in parsed if o not in added]))
    for override in parsed:
        name = override.package or override.key_or_group
        is_used = is_read(plain, name) or any("${" + name in word for word in words)
        if override in added and not is_used:
            raise ValueError(_unknown(command, override, plain))
        group = None if name in limits.RULES else OmegaConf.select(plain, name)
        single = override not in choices and not isinstance(override.value(), dict | list | None)
        if single and OmegaConf.is_dict(group):
            names = ", ".join(f"{name}.{key}" for key in group if key[0] != "_")
            raise ValueError(f"{override.input_line}: this is a group of options: {names}.")


def _resumes(parsed: list[Override]) -> bool:
    return any(o.key_or_group == "resume" and o.value() is not None for o in parsed)


def _for_hydra(command: str, override: Override, parsed: list[Override]) -> str:
    """A word as Hydra needs it: numbers stay text where text belongs; what belongs to a stored
    configuration may be missing in this one."""
    word, name = override.input_line, override.key_or_group
    rule, single = limits.rule_of(name, command), not override.is_sweep_override()
    is_text = rule is not None and rule.kind == "text"  # as in name=42
    if single and is_text and isinstance(override.value(), int | float):
        word = f"{word.partition('=')[0]}='{word.partition('=')[2]}'"
    own = name in ("resume", "runs_dir", "trust_config") or name.startswith("hydra")
    stored = name.startswith("env.") if command != "train" else _resumes(parsed) and not own
    if stored and override.type == OverrideType.CHANGE and not _options(name):
        return f"++{word}"
    return word


def _alone(parsed: list[Override]) -> list[str]:
    """The choices of files alone, and where Hydra looks for a user's own."""
    return [o.input_line for o in parsed if _options(o.key_or_group) or o.key_or_group == SEARCH]


def _options(group: str) -> list[str]:
    """The files of a group in configs/."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def _near(word: str, known: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, known, 1, 0.6)), None)


def _explained(command: str, words: list[str], error: Exception) -> str:
    """Say which word does not fit, and what is near it; else the library's words in one line."""
    parsed = parse(words)
    choices = [o for o in parsed if _options(o.key_or_group)]
    try:
        plain = compose(command, _alone(parsed))
    except Exception:  # a choice is not there, or they do not fit together
        problem = next(filter(None, map(_problem_of_choice, choices)), None)
        return problem or " ".join(str(error).split())[:300]
    known = _known(command, plain)
    for override in parsed:
        is_value = override not in choices and override.type == OverrideType.CHANGE
        if is_value and override.key_or_group not in [*known, SEARCH]:
            return _unknown(command, override, plain)
    return " ".join(str(error).split())[:300]


def _problem_of_choice(choice: Override) -> str | None:
    """What is wrong with the file that a word chooses; None where it is there."""
    if choice.is_sweep_override():
        return f"{choice.input_line}: several values are a sweep; add --multirun."
    value, options = str(choice.get_value_element_as_str()), _options(choice.key_or_group)
    if value in options:
        return None
    near = _near(value, options)
    hint = f"did you mean {near}?" if near else f"expected one of {', '.join(options)}."
    return f"{choice.input_line}: {hint}"


def _known(command: str, plain: DictConfig) -> list[str]:
    """Every choice and option of a command, by dotted names."""
    groups = [path.name for path in CONFIGS.iterdir() if path.is_dir()] if command == "train" else []
    names = [name for name, _ in limits.leaves(plain)]
    return [*groups, *(name for name in names if not name.startswith("hydra"))]


def _unknown(command: str, override: Override, plain: DictConfig) -> str:
    name, known = override.package or override.key_or_group, _known(command, plain)
    if name.startswith("hydra/"):
        cure = 'pip install "mario_dreamer[sweep]", see "Many runs" in benchmarks/README.md'
        return f"{override.input_line}: Hydra has no such plugin here; {cure}."
    if name.startswith("env.") and not str(plain.env.get("_target_")).startswith("mario_dreamer."):
        return f"{override.input_line}: an option of an env of your own is added, +{override.input_line}."
    ends = {other.rpartition(".")[2]: other for other in reversed(known)}
    near = _near(name, known) or ends.get(_near(name, list(ends)) or "")
    hint = f"did you mean {near}=...?" if near else f"see configs/{command}.yaml."
    return f"{override.input_line}: there is no option {name!r}; {hint}"
