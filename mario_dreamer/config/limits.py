"""What each option may be: one table for all commands, read before anything is built."""

from __future__ import annotations

import difflib
import fnmatch
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

OURS = ("mario_dreamer.", "torch.")
GROUPS = ("world_model", "actor", "critic")  # of parameters
GROUPED = ("optimizer.lr", "optimizer.clip_norm", "optimizer.eps")  # one number, or one per group
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


def _number(
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


def _whole(least: int, most: int = ENDLESS, none: bool = False) -> Rule:
    return _number(least, most, whole=True, none=none)


def _words(pattern: str, text: str, kind: str = "word", **options: bool) -> Rule:
    """Words that match a regular expression as a whole."""

    def fits(value: Any) -> bool:
        word = str(value).lower() if isinstance(value, bool) else str(value)
        single = not isinstance(value, dict | list)
        return single and bool(re.fullmatch(pattern, word, re.DOTALL))

    return Rule(text, fits, kind, **options)


def _one_of(*words: str) -> Rule:
    return _words("|".join(map(re.escape, words)), f"one of {', '.join(words)}")


BOOL = Rule("true or false", lambda value: isinstance(value, bool), "switch")
TEXT = _words(".+", "text", "text")
TEXT_OR_NONE = _words(".+", "text", "text", none=True)
SHARE = _number(0, 1)
POSITIVE = _number(0, above=True)
WEIGHT = _number(0, 1e12)
SIZE = _whole(1, 2**20)
LAYERS = _whole(0, 1000)
STAGE = r'[1-8]-[1-4]'

# Of one command only, where the same name means something else in another.
FILM = _words(r".+\.(mp4|gif)", "a file ending in .mp4 or .gif")
OF_COMMAND = {
    "play": {"out": FILM, "episodes": _whole(1, 100)}, "dream": {"out": FILM},
    "report": {"episodes": _whole(0, 10**6)},
    "view": {"compare": TEXT_OR_NONE, "recording": TEXT_OR_NONE},
}
# The first pattern that fits a dotted name is its rule.
RULES: dict[str, Rule | None] = {
    "trust_config": BOOL, "prefill_random": BOOL, "greedy": BOOL,
    "seed": _whole(0, 2**31 - 1), "name": _words(
        r"(?!\.{1,2}$)[^/\\\0]{1,200}", "a folder's name, at most 200 characters without / and \\",
        "text", none=True),
    "device": _words(r"auto|cpu|mps|cuda(:\d+)?", "auto, cpu, mps, cuda or cuda:N"),
    "precision": _one_of("auto", "bf16", "16", "fp32", "32"),
    "compile": _words(r"off|on|cudagraph|on\+cudagraph|true|false", "off, on, cudagraph or on+cudagraph"),
    "save_model": _one_of("auto", "true", "false"), "track": _one_of("auto", "true", "false"),
    "weights": _one_of("average", "latest"), "format": _one_of("pt2", "mlflow"),
    "conditions": _words(
        "all|(sampled|greedy)(-noops)?(-sticky)?",
        "all, or some of sampled, greedy, each alone or with -noops, -sticky, -noops-sticky", many=True),
    "runs_dir": TEXT, "checkpoint": TEXT, "host": TEXT, "experiment": TEXT_OR_NONE,
    "out": TEXT_OR_NONE, "resume": TEXT_OR_NONE,
    "register": _words("[^/:]+", "a model's name, without / and :", "text", none=True),
    "results": TEXT_OR_NONE, "tracking_uri": TEXT_OR_NONE, "init_from": TEXT_OR_NONE,
    "init_parts": _words(r"\w+", "a part's name, or a list of them", many=True, none=True),
    "*.tracking_uri": TEXT_OR_NONE,
    "threads": _whole(1, 4096, none=True), "env.threads": _whole(1, 4096, none=True),
    "steps": _whole(1), "prefill": _whole(0), "pretrain": _whole(0),
    "minutes": _number(0, above=True, none=True), "train_ratio": _number(0, 1e9, above=True),
    "train_ratio_before_flag": _number(0, 1e9, above=True, none=True),
    "batch_size": SIZE, "batch_length": _whole(2, 2**20), "imag_horizon": _whole(1, 10**4),
    "imagination_starts": _whole(1, none=True),
    "discount": _number(0, 1, above=True), "discount_lambda": SHARE,
    "slow_rate": _number(0, 1, above=True), "average_rate": _number(0, 1, none=True),
    "entropy_solved": _number(0, 1e3, above=True, none=True),
    "log_every": _whole(0), "eval_every": _whole(0), "save_every": _whole(0),
    "eval_episodes": _whole(0, 2**20), "keep_checkpoints": _whole(1),
    "episodes": _whole(1, 10**6), "num_envs": _whole(1, 4096), "save_episodes": _whole(0, 10**6),
    "max_steps": _whole(1), "random_noops": _whole(0, 10**4), "sticky": SHARE,
    "horizon": _whole(1, 10**4), "context": _whole(1, 10**5), "rows": _whole(1, 256),
    "start": _whole(0, 10**6), "scale": _whole(1, 64), "port": _whole(0, 65535),
    "max_pages": _whole(1, 1000),
    "collector.num_envs": _whole(1, 4096), "collector.eval_envs": _whole(1, 4096),
    "collector.steps_per_env": SIZE, "collector.backend": _one_of("process", "ray", "distributed"),
    "collector.workers": _whole(1, 4096), "collector.max_policy_age": _whole(1),
    "collector.weights_every": _whole(1), "collector.wait": POSITIVE,
    "collector.cpus": POSITIVE, "collector.address": TEXT_OR_NONE,
    "collector.launcher": _one_of("mp", "submitit"),
    "replay.capacity": _whole(1, 2**40), "replay.online": BOOL, "replay.latents": BOOL,
    "replay.prefetch": BOOL, "replay.slot_bytes": _whole(1, 2**24),
    "replay.storage": _one_of("memory", "memmap", "compressed"),
    "size.head_layers": LAYERS, "size.behaviour_layers": LAYERS, "size.*": SIZE,
    "optimizer.warmup": _whole(0), "optimizer.agc": _number(0, above=True, none=True),
    "optimizer.lr": _number(0, 1e3, above=True), "optimizer.lr.*": _number(0, 1e3, above=True),
    "optimizer.clip_norm": _number(0, above=True, none=True),
    "optimizer.clip_norm.*": _number(0, above=True, none=True),
    "optimizer.eps.*": _number(0, 1), "optimizer.optimizer.eps": _number(0, 1),
    "optimizer.optimizer.betas.*": _number(0, 1 - 1e-12), "optimizer.optimizer.foreach": BOOL,
    "loss.discount.gamma": _number(0, 1, above=True), "loss.*.lmbda": SHARE,
    "loss.*.learned": BOOL, "loss.*.normalize": BOOL, "loss.*.alive_start": BOOL,
    "actor_grad": _one_of("reinforce", "dynamics"), "loss.actor.actor_grad": None,
    "loss.*.reduction": None,
    "loss.*": WEIGHT,
    "*.min_std": POSITIVE, "*.max_std": POSITIVE,
    "*.unimix": _number(0, 0.999), "*.outscale": WEIGHT, "*.sigmoid": BOOL,
    "*.low": _number(-60, 60), "*.high": _number(-60, 60), "*.bins": _whole(3, 2**16),
    "*.layers": LAYERS, "*.prior_layers": LAYERS,
    "*.posterior_layers": _whole(1, 1000), "*.units": SIZE, "*.depth": SIZE,
    "*.mults.*": SIZE, "*.kernel": _whole(1, 255), "*.patch": _whole(1, 255),
    "*.blocks": SIZE, "*.deter_dim": SIZE, "*.hidden_dim": SIZE, "*.stoch_shape.*": SIZE,
    "env.stage": _words(f"all|{STAGE}", 'one of "1-1" to "8-4", a list of those, or all', many=True),
    "env.action_set": _words(
        "simple|right_only|complex|noop|[a-zA-Z+]+",
        "simple, right_only, complex, or a list such as [noop, right+A]", many=True),
    "env.sticky_unit": _one_of("frame", "step"), "env.death_screen": _one_of("game", "black"),
    "env.stage_order": _one_of("balanced", "turn", "random"),
    "env.image_size": _whole(1, 1024, none=True),
    "env.image_size.*": _whole(1, 1024), "env.action_repeat": _whole(1, 10**6),
    "env.max_steps": _whole(1, none=True), "env.stall_limit": _whole(1, none=True),
    "env.random_noops": _whole(0, 10**4), "env.sticky": SHARE,
    "env.crop_top": _whole(0, 239), "env.num_actions": _whole(1, 10**4),
    "env.cells": _whole(3, 4096), "env.from_render": BOOL, "env.parallel": BOOL, "env.grayscale": BOOL,
    "env.pixels": replace(BOOL, none=True),
    "env.all_actions": BOOL, "env.show_stage": BOOL, "env.show_executed": BOOL,
    "env.noops": _whole(0, 10**4), "env.delay": _whole(1, 10**6),
    "env.scale": Rule("a list of numbers", lambda value: isinstance(value, list), "list", none=True),
    "env.scale.*": _number(-1e9, 1e9),
    "env.options": Rule("options by name", lambda value: isinstance(value, dict), "group", none=True),
    "env.max_pool": BOOL, "env.reward.backward": BOOL, "env.reward.kind": None,
    "env.reward.scale": _number(-1e6, 1e6), "env.reward.warp": _number(0, 1e6),
    "env.reward.*": _number(-1e9, 1e9),
    "tracker.*_seconds": _number(0, 1e9), "tracker.jsonl": BOOL, "tracker.csv": BOOL,
    "tracker.system_metrics": BOOL,
}  # fmt: skip


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a nested configuration with its dotted name, groups before members."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in pairs:
        path = f"{name}.{key}" if name else str(key)
        yield path, item
        if isinstance(item, dict | list):
            yield from leaves(item, path)


def rule_of(name: str, command: str = "train") -> Rule | None:
    """Return the rule of an option; None where any value goes."""
    if name in OF_COMMAND.get(command, {}):
        return OF_COMMAND[command][name]
    return next((rule for pattern, rule in RULES.items() if fnmatch.fnmatch(name, pattern)), None)


def is_text(name: str, command: str = "train") -> bool:
    """Whether a number typed for this option is meant as text, as in name=42."""
    rule = rule_of(name, command)
    return rule is not None and rule.kind == "text"


def check_numbers(cfg: DictConfig | Mapping[str, Any], command: str = "train") -> None:
    """Refuse words where numbers belong, unknown words, and numbers that cannot mean anything.

    Args:
        cfg: a command's configuration, or a part of one by dotted names.

    Raises:
        ValueError: naming the option, what was given and what it may be.
    """
    try:
        found = OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else dict(cfg)
    except OmegaConfBaseException as error:
        raise ValueError(" ".join(str(error).split())[:300]) from error
    pairs = list(leaves({key: found[key] for key in found if key != "hydra"}))
    # A class from elsewhere has rules of its own.
    foreign = tuple(
        f"{name}." for name, value in pairs
        if isinstance(value, dict) and not str(value.get("_target_", OURS[0])).startswith(OURS)
    )  # fmt: skip
    for name, value in pairs:
        rule = rule_of(name, command)
        if name in GROUPED and not name.startswith(foreign):
            _check_groups(name, value, OmegaConf.is_config(cfg))
        if rule is None or name.endswith("_") or name.startswith(foreign):
            continue
        if isinstance(value, dict | list) and rule.kind == "number" and _any_inside(name):
            continue
        if not rule.allows(value):
            raise ValueError(f"{name} must be {rule}; got {'null' if value is None else repr(value)}.")


def _check_groups(name: str, value: Any, whole: bool) -> None:
    """Refuse names of groups that no agent has; in a whole configuration, also missing ones."""
    single = "" if name == "optimizer.eps" else "one number, or "
    right = f"Give {single}one for each of {', '.join(GROUPS)}."
    if not isinstance(value, dict):
        if isinstance(value, list) or (not single and value is not None):
            raise ValueError(f"{name}: got {value!r}. {right}")
        return
    for group in map(str, value):
        if group not in GROUPS:
            near = difflib.get_close_matches(group, GROUPS, 1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise ValueError(f"{name}: there is no group {group!r}{hint} {right}")
    missing = [group for group in GROUPS if group not in value]
    if whole and missing:
        raise ValueError(f"{name}: {' and '.join(missing)} missing. {right}")


def _any_inside(name: str) -> bool:
    """Whether an option may be given by group, such as `optimizer.lr: {actor: ...}`."""
    return name.startswith("loss.") or any(
        pattern.removesuffix(".*") == name for pattern in RULES if pattern.endswith(".*")
    )
