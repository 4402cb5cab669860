"""What each number of a configuration may be. One table, asked before anything is built."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

__all__ = ["RULES", "check_numbers"]

ENDLESS = 10**15  # more steps than anybody can wait for


@dataclass(frozen=True)
class Rule:
    """A range of numbers.

    Args:
        least, most: both allowed, but for `above`.
        whole: no fractions.
        above: `least` itself is too little.
        none: null is allowed too.
    """

    least: float = 0
    most: float = math.inf
    whole: bool = False
    above: bool = False
    none: bool = False

    def allows(self, value: Any) -> bool:
        """Whether a value is a number in the range."""
        if value is None:
            return self.none
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        if not math.isfinite(value) or value > self.most:
            return False
        return value > self.least if self.above else value >= self.least

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        text = f"{kind}, {'above' if self.above else 'at least'} {self.least:g}"
        most = "" if self.most >= ENDLESS else f" and at most {self.most:g}"
        return text + most + (", or null" if self.none else "")


def _whole(least: int, most: int = ENDLESS, none: bool = False) -> Rule:
    return Rule(least, most, whole=True, none=none)


SHARE = Rule(0, 1)
POSITIVE = Rule(0, above=True)
WEIGHT = Rule(0, 1e12)
SIZE = _whole(1, 2**20)

# The first pattern that fits a dotted name is its rule.
RULES: dict[str, Rule | type[bool] | None] = {
    "trust_config": bool, "prefill_random": bool,
    "seed": _whole(0, 2**31 - 1),
    "threads": _whole(1, 4096, none=True), "env.threads": _whole(1, 4096, none=True),
    "steps": _whole(1), "prefill": _whole(0), "pretrain": _whole(0),
    "minutes": Rule(0, above=True, none=True), "train_ratio": Rule(0, 1e9, above=True),
    "batch_size": _whole(1), "batch_length": _whole(2), "imag_horizon": _whole(1),
    "imagination_starts": _whole(1, none=True),
    "discount": Rule(0, 1, above=True), "discount_lambda": SHARE,
    "slow_rate": Rule(0, 1, above=True), "average_rate": Rule(0, 1, none=True),
    "entropy_solved": Rule(0, 1e3, above=True, none=True),
    "log_every": _whole(0), "eval_every": _whole(0), "save_every": _whole(0),
    "eval_episodes": _whole(0, 2**20), "keep_checkpoints": _whole(1),
    "collector.num_envs": _whole(1, 4096), "collector.eval_envs": _whole(1, 4096),
    "collector.steps_per_env": _whole(1, 2**20),
    "replay.capacity": _whole(1, 2**40), "replay.online": bool, "replay.latents": bool,
    "replay.prefetch": bool, "replay.slot_bytes": _whole(1, 2**24),
    "size.head_layers": _whole(0, 1000), "size.behaviour_layers": _whole(0, 1000),
    "size.*": SIZE,
    "optimizer.warmup": _whole(0), "optimizer.agc": Rule(0, above=True, none=True),
    "optimizer.lr": Rule(0, 1e3, above=True), "optimizer.lr.*": Rule(0, 1e3, above=True),
    "optimizer.clip_norm": Rule(0, above=True, none=True),
    "optimizer.clip_norm.*": Rule(0, above=True, none=True),
    "optimizer.eps.*": Rule(0, 1), "optimizer.optimizer.eps": Rule(0, 1),
    "optimizer.optimizer.betas.*": Rule(0, 1 - 1e-12),
    "loss.discount.gamma": Rule(0, 1, above=True), "loss.*.lmbda": SHARE,
    "loss.*.learned": bool, "loss.*.normalize": bool, "loss.*.alive_start": bool,
    "loss.actor.actor_grad": None, "loss.*.reduction": None,  # words
    "loss.*": WEIGHT,
    "*.min_std": POSITIVE, "*.max_std": POSITIVE,
    "*.unimix": Rule(0, 0.999), "*.outscale": WEIGHT, "*.sigmoid": bool,
    "*.low": Rule(-60, 60),
    "*.high": Rule(-60, 60), "*.bins": _whole(3, 2**16),
    "*.layers": _whole(0, 1000), "*.prior_layers": _whole(0, 1000),
    "*.posterior_layers": _whole(1, 1000), "*.units": SIZE, "*.depth": SIZE,
    "*.mults.*": SIZE, "*.kernel": _whole(1, 255), "*.patch": _whole(1, 255),
    "*.blocks": SIZE, "*.deter_dim": SIZE, "*.hidden_dim": SIZE, "*.stoch_shape.*": SIZE,
    "env.image_size": _whole(1, 4096, none=True), "env.image_size.*": _whole(1, 4096), "env.action_repeat": _whole(1, 10**6),
    "env.max_steps": _whole(1, none=True), "env.stall_limit": _whole(1, none=True),
    "env.random_noops": _whole(0, 10**4), "env.sticky": SHARE,
    "env.crop_top": _whole(0, 239), "env.num_actions": _whole(1, 10**4),
    "env.cells": _whole(3, 4096), "env.from_render": bool, "env.parallel": bool, "env.grayscale": bool,
    "env.max_pool": bool, "env.reward.backward": bool, "env.reward.kind": None,  # a word
    "env.reward.scale": Rule(-1e6, 1e6), "env.reward.warp": Rule(0, 1e6),
    "env.reward.*": Rule(-1e9, 1e9), "optimizer.optimizer.foreach": bool,
    "tracker.*_seconds": Rule(0, 1e9), "tracker.jsonl": bool, "tracker.csv": bool,
    "tracker.system_metrics": bool,
}  # fmt: skip


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every number or word of a nested configuration with its dotted name."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in pairs:
        path = f"{name}.{key}" if name else str(key)
        if isinstance(item, dict | list):
            yield path, item
            yield from _leaves(item, path)
        else:
            yield path, item


def _rule(name: str) -> Rule | type[bool] | None:
    return next((rule for pattern, rule in RULES.items() if fnmatch.fnmatch(name, pattern)), None)


def check_numbers(cfg: DictConfig) -> None:
    """Refuse words where numbers belong, and numbers that cannot mean anything.

    Args:
        cfg: a run's configuration.

    Raises:
        ValueError: naming the option, what was given and what it may be.
    """
    found = OmegaConf.to_container(cfg, resolve=True)
    for name, value in _leaves({key: found[key] for key in found if key != "hydra"}):
        rule = _rule(name)
        if (
            rule is None
            or name.endswith("_")
            or (isinstance(value, dict | list) and _any_inside(name))
        ):
            continue
        if rule is bool:
            if not isinstance(value, bool):
                raise ValueError(f"{name} must be true or false; got {value!r}.")
        elif not rule.allows(value):
            raise ValueError(f"{name} must be {rule}; got {value!r}.")


def _any_inside(name: str) -> bool:
    """Whether an option may be given by group, such as `optimizer.lr: {actor: ...}`."""
    return name.startswith("loss.") or any(
        pattern.removesuffix(".*") == name for pattern in RULES if pattern.endswith(".*")
    )
