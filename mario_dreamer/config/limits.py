"""What each option may be: one table for all commands, read before anything is built."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mario_dreamer.config.rule import Rule, number, one_of, whole_number, words

OURS = ("mario_dreamer.", "torch.")
GROUPS = ("world_model", "actor", "critic")  # of parameters
GROUPED = ("optimizer.lr", "optimizer.clip_norm", "optimizer.eps")  # one number, or one per group

BOOL = Rule("true or false", lambda value: isinstance(value, bool), "switch")
TEXT = words(".+", "text", "text")
TEXT_OR_NONE = replace(TEXT, none=True)
SHARE = number(0, 1)
POSITIVE = number(0, above=True)
WEIGHT = number(0, 1e12)
SIZE = whole_number(1, 2**20)
LAYERS = whole_number(0, 1000)
NUMBERS = Rule("a list of numbers", lambda value: isinstance(value, list), "list")
PAIR = Rule("two numbers", lambda value: isinstance(value, list) and len(value) == 2, "list")
OPTIONS = Rule("options by name", lambda value: isinstance(value, dict), "group", none=True)
FOLDER = words(
    r"(?!\.{1,2}$)[^/\\\0]{1,200}", "a folder's name, at most 200 characters without / and \\", "text"
)

# Of one command only, where the same name means something else in another.
FILM = words(r".+\.(mp4|gif)", "a file ending in .mp4 or .gif")
OF_COMMAND = {
    "play": {"out": FILM, "episodes": whole_number(1, 100)}, "dream": {"out": FILM},
    "report": {"episodes": whole_number(0, 10**6)},
    "view": {"compare": TEXT_OR_NONE, "recording": TEXT_OR_NONE},
}
# The first pattern that fits a dotted name is its rule.
RULES: dict[str, Rule | None] = {
    "trust_config": BOOL, "prefill_random": BOOL, "greedy": BOOL,
    "seed": whole_number(0, 2**31 - 1),
    "experiment_name": FOLDER, "name": replace(FOLDER, none=True),
    "encoders": OPTIONS, "decoders": OPTIONS,
    "device": words(r"auto|cpu|mps|cuda(:\d+)?", "auto, cpu, mps, cuda or cuda:N"),
    "precision": one_of("auto", "bf16", "16", "fp32", "32"),
    "compile": words(r"off|on|cudagraph|on\+cudagraph|true|false", "off, on, cudagraph or on+cudagraph"),
    "save_model": one_of("auto", "true", "false"), "track": one_of("auto", "true", "false"),
    "weights": one_of("average", "latest"), "format": one_of("pt2", "mlflow"),
    "conditions": words(
        "all|(sampled|greedy)(-noops)?(-sticky)?",
        "all, or some of sampled, greedy, each alone or with -noops, -sticky, -noops-sticky", many=True),
    "runs_dir": TEXT, "checkpoint": TEXT, "host": TEXT, "experiment": TEXT_OR_NONE,
    "out": TEXT_OR_NONE, "resume": TEXT_OR_NONE,
    "register": words("[^/:]+", "a model's name, without / and :", "text", none=True),
    "results": TEXT_OR_NONE, "tracking_uri": TEXT_OR_NONE, "init_from": TEXT_OR_NONE,
    "init_parts": words(r"\w+", "a part's name, or a list of them", many=True, none=True),
    "*.tracking_uri": TEXT_OR_NONE,
    "threads": whole_number(1, 4096, none=True), "env.threads": whole_number(1, 4096, none=True),
    "steps": whole_number(1), "prefill": whole_number(0), "pretrain": whole_number(0),
    "minutes": number(0, above=True, none=True), "train_ratio": number(0, 1e9, above=True),
    "train_ratio_before_flag": number(0, 1e9, above=True, none=True),
    "batch_size": SIZE, "batch_length": whole_number(2, 2**20), "imag_horizon": whole_number(1, 10**4),
    "imagination_starts": whole_number(1, none=True),
    "discount": number(0, 1, above=True), "discount_lambda": SHARE,
    "slow_rate": number(0, 1, above=True), "average_rate": number(0, 1, none=True),
    "entropy_solved": number(0, 1e3, above=True, none=True),
    "log_every": whole_number(0), "eval_every": whole_number(0), "save_every": whole_number(0),
    "eval_episodes": whole_number(0, 2**20), "keep_checkpoints": whole_number(1),
    "episodes": whole_number(1, 10**6), "num_envs": whole_number(1, 4096), "save_episodes": whole_number(0, 10**6),
    "max_steps": whole_number(1), "random_noops": whole_number(0, 10**4), "sticky": SHARE,
    "horizon": whole_number(1, 10**4), "context": whole_number(1, 10**5), "rows": whole_number(1, 256),
    "start": whole_number(0, 10**6), "scale": whole_number(1, 64), "port": whole_number(0, 65535),
    "max_pages": whole_number(1, 1000),
    "collector.num_envs": whole_number(1, 4096), "collector.eval_envs": whole_number(1, 4096),
    "collector.steps_per_env": SIZE, "collector.backend": one_of("process", "ray", "distributed"),
    "collector.workers": whole_number(1, 4096), "collector.max_policy_age": whole_number(1),
    "collector.weights_every": whole_number(1), "collector.wait": POSITIVE,
    "collector.cpus": POSITIVE, "collector.address": TEXT_OR_NONE,
    "collector.launcher": one_of("mp", "submitit"), "collector.slurm": OPTIONS,
    "replay.capacity": whole_number(1, 2**40), "replay.online": BOOL, "replay.latents": BOOL,
    "replay.prefetch": BOOL, "replay.slot_bytes": whole_number(1, 2**24),
    "replay.storage": one_of("memory", "memmap", "compressed"),
    "size.head_layers": LAYERS, "size.behaviour_layers": LAYERS, "size.*": SIZE,
    "optimizer.warmup": whole_number(0), "optimizer.agc": number(0, above=True, none=True),
    "optimizer.lr": number(0, 1e3, above=True), "optimizer.lr.*": number(0, 1e3, above=True),
    "optimizer.clip_norm": number(0, above=True, none=True),
    "optimizer.clip_norm.*": number(0, above=True, none=True),
    "optimizer.eps.*": number(0, 1), "optimizer.optimizer.eps": number(0, 1),
    "optimizer.optimizer.betas": PAIR, "*.stoch_shape": PAIR,
    "optimizer.optimizer.betas.*": number(0, 1 - 1e-12), "optimizer.optimizer.foreach": BOOL,
    "loss.discount.gamma": number(0, 1, above=True), "loss.*.lmbda": SHARE,
    "loss.*.learned": BOOL, "loss.*.normalize": BOOL, "loss.*.alive_start": BOOL,
    "actor_grad": one_of("reinforce", "dynamics"), "loss.actor.actor_grad": None,
    "loss.*.reduction": None,
    "loss.*": WEIGHT,
    "*.min_std": POSITIVE, "*.max_std": POSITIVE,
    "*.unimix": number(0, 0.999), "*.outscale": WEIGHT, "*.sigmoid": BOOL, "*.symlog": BOOL,
    "*.low": number(-60, 60), "*.high": number(-60, 60), "*.bins": whole_number(3, 2**16),
    "*.layers": LAYERS, "*.prior_layers": LAYERS,
    "*.posterior_layers": whole_number(1, 1000), "*.units": SIZE, "*.depth": SIZE,
    "*.mults": NUMBERS, "*.mults.*": SIZE,
    "*.kernel": whole_number(1, 255), "*.patch": whole_number(1, 255),
    "*.blocks": SIZE, "*.deter_dim": SIZE, "*.hidden_dim": SIZE, "*.stoch_shape.*": SIZE,
    "env.stage": words("all|[1-8]-[1-4]", 'one of "1-1" to "8-4", a list of those, or all', many=True),
    "env.action_set": words(
        "simple|right_only|complex|noop|[a-zA-Z+]+",
        "simple, right_only, complex, or a list such as [noop, right+A]", many=True),
    "env.sticky_unit": one_of("frame", "step"), "env.death_screen": one_of("game", "black"),
    "env.stage_order": one_of("balanced", "turn", "random"),
    "env.image_size": whole_number(1, 1024, none=True),
    "env.image_size.*": whole_number(1, 1024), "env.action_repeat": whole_number(1, 10**6),
    "env.max_steps": whole_number(1, none=True), "env.stall_limit": whole_number(1, none=True),
    "env.random_noops": whole_number(0, 10**4), "env.sticky": SHARE,
    "env.crop_top": whole_number(0, 239), "env.num_actions": whole_number(1, 10**4),
    "env.cells": whole_number(3, 4096), "env.from_render": BOOL, "env.parallel": BOOL, "env.grayscale": BOOL,
    "env.pixels": replace(BOOL, none=True),
    "env.all_actions": BOOL, "env.show_stage": BOOL, "env.show_executed": BOOL,
    "env.noops": whole_number(0, 10**4), "env.delay": whole_number(1, 10**6),
    "env.scale": replace(NUMBERS, none=True),
    "env.scale.*": number(-1e9, 1e9),
    "env.options": OPTIONS,
    "env.max_pool": BOOL, "env.reward.backward": BOOL, "env.reward.kind": None,
    "env.reward.scale": number(-1e6, 1e6), "env.reward.warp": number(0, 1e6),
    "env.reward.*": number(-1e9, 1e9),
    "tracker.*_seconds": number(0, 1e9), "tracker.jsonl": BOOL, "tracker.csv": BOOL,
    "tracker.system_metrics": BOOL,
}  # fmt: skip


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a configuration, unresolved, by dotted name; groups before members."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
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
        name.removesuffix("_target_") for name, value in pairs
        if name.endswith("._target_") and not str(value).startswith(OURS)
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
