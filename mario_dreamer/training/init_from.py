"""Start a new run from the weights of another run's checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from mario_dreamer.training.checkpoint_files import CheckpointError, read

INIT_PARTS = ("world_model", "actor", "critic")


def init_from(modules: nn.ModuleDict, checkpoint: Path, parts: Sequence[str] = INIT_PARTS) -> None:
    """Copy the weights of some parts of a checkpoint into a freshly built agent.

    The weights are those of the last update, not their average: critic and actor belong together.
    What follows a part starts as its copy: the slow critic, the averaged weights. Optimizer, return
    statistics and counters start fresh.

    Args:
        modules: `Learner.modules` of the new run.
        parts: some of `INIT_PARTS`.

    Raises:
        CheckpointError: the checkpoint is damaged, or its sizes are not those of the new run;
            no weight has changed then.
        ValueError: a part is named that does not exist.
    """
    unknown = [part for part in parts if part not in INIT_PARTS]
    if unknown or not parts:
        raise ValueError(f"init_parts={list(parts)}: expected some of {', '.join(INIT_PARTS)}.")
    saved = read(checkpoint, "agent")
    states = {part: _state_of(saved, part) for part in parts}
    differing = [
        difference
        for part, state in states.items()
        for difference in _differences(part, modules[part].state_dict(), state)
    ]
    if differing:
        raise CheckpointError(
            f"init_from={checkpoint} does not fit this run: {differing[0]}"
            f"{f' (and {len(differing) - 1} more)' if differing[1:] else ''}. "
            "Choose the same size, encoder, decoder, rssm, env and action set as in its "
            "config.yaml, or fewer init_parts."
        )
    for part, state in states.items():
        modules[part].load_state_dict(state)
        if part == "critic":
            modules["slow_critic"].load_state_dict(state)
        elif "average" in modules:
            modules["average"][part].load_state_dict(state)


def _state_of(saved: object, part: str) -> dict[str, torch.Tensor]:
    if not isinstance(saved, dict):
        return {}
    prefix = f"{part}."
    named = ((str(key), value) for key, value in saved.items())
    return {key.removeprefix(prefix): value for key, value in named if key.startswith(prefix)}


def _differences(
    part: str, here: dict[str, torch.Tensor], there: dict[str, torch.Tensor]
) -> list[str]:
    """What keeps the saved weights of a part from being loaded, in words."""
    found = [f"it has no {part}.{name}" for name in here if name not in there]
    found += [f"this run has no {part}.{name}" for name in there if name not in here]
    for name in here.keys() & there.keys():
        if getattr(there[name], "shape", None) != here[name].shape:
            shape = list(getattr(there[name], "shape", []))
            found.append(f"{part}.{name} is {shape} there and {list(here[name].shape)} here")
        elif not bool(torch.isfinite(there[name]).all()):
            found.append(f"{part}.{name} is not finite there")
    return sorted(found)
