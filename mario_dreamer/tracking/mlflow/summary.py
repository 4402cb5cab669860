"""Describe a run for MLflow's pages: two sentences, a dozen tags, the environment as a dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Parameter -> the tag it is also shown as; of some 170, the ones that people filter by.
KEY_PARAMS = {
    "experiment_name": "recipe", "env.stage": "stage", "env._target_": "env", "seed": "seed",
    "steps": "steps", "size.deter": "size", "train_ratio": "train_ratio",
    "batch_size": "batch_size", "batch_length": "batch_length",
    "collector.num_envs": "num_envs", "env.action_repeat": "action_repeat",
    "loss.actor.entropy_scale": "entropy_scale",
}  # fmt: skip


def key_tags(params: Mapping[str, str]) -> dict[str, str]:
    """Choose the parameters that are shown as tags too; `make_toy_env` becomes `toy`."""
    tags = {tag: params[key] for key, tag in KEY_PARAMS.items() if key in params}
    if "env" in tags:
        tags["env"] = tags["env"].split(".")[-1].removeprefix("make_").removesuffix("_env")
    return tags


def _place(params: Mapping[str, str]) -> str:
    tags = key_tags(params)
    if "stage" in tags:
        return f"Super Mario Bros {tags['stage']}"
    return params.get("env.env_id") or tags.get("env", "an environment")


def description(
    params: Mapping[str, str], last: Mapping[str, float], status: str = "RUNNING"
) -> str:
    """Write what a run is and how well it went, in two sentences."""
    recipe = f" by the recipe {params['experiment_name']}" if "experiment_name" in params else ""
    first = (
        f"DreamerV3 learns to play {_place(params)}{recipe}, seed {params.get('seed', '?')}, in "
        f"{params.get('steps', '?')} agent steps."
    )
    if status == "RUNNING":
        return f"{first} It is running."
    steps = f"{last.get('run/agent_steps', 0):,.0f} agent steps"
    shown = (
        ("play/return_mean", "return {:.4g}"), ("play/flag_rate", "flag rate {:.2f}"),
        ("eval/sampled/return", "return {:.4g} in the last evaluation"),
    )  # fmt: skip
    results = [text.format(last[name]) for name, text in shown if name in last]
    results = f": {', '.join(results)}" if results else ", before an episode ended"
    return f"{first} It ended {status} after {steps}{results}."


def dataset(params: Mapping[str, str]) -> dict[str, Any] | None:
    """Describe the environment as an MLflow dataset: `name`, `digest` of its options, `source`.

    Returns:
        None where the configuration names no environment.
    """
    options = {key[4:]: value for key, value in params.items() if key.startswith("env.")}
    if "_target_" not in options:
        return None
    text = json.dumps(options, sort_keys=True)
    return {
        "name": _place(params)[:500],
        "digest": hashlib.sha256(text.encode()).hexdigest()[:8],
        "source": text,
    }
