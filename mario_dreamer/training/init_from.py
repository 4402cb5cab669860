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
    saved, own = read(checkpoint, "agent"), tuple(f"{part}." for part in parts)
    named = {str(key): value for key, value in saved.items()} if isinstance(saved, dict) else {}
    there = {key: value for key, value in named.items() if key.startswith(own)}
    here = {key: value for key, value in modules.state_dict().items() if key.startswith(own)}
    differing = _differences(here, there)
    if differing:
        raise CheckpointError(
            f"init_from={checkpoint} does not fit this run: {differing[0]}"
            f"{f' (and {len(differing) - 1} more)' if differing[1:] else ''}. "
            "Choose the same size, encoder, decoder, rssm, env and action set as in its "
            "config.yaml, or fewer init_parts."
        )
    followers = {f"slow_{k}": v for k, v in there.items() if k.startswith("critic.")}
    if "average" in modules:
        followers |= {f"average.{k}": v for k, v in there.items() if not k.startswith("critic.")}
    modules.load_state_dict(there | followers, strict=False)


def _differences(here: dict[str, torch.Tensor], there: dict[str, torch.Tensor]) -> list[str]:
    """What keeps the saved weights from being loaded, in words."""
    found = []
    for name in here | there:
        if name not in there:
            found.append(f"it has no {name}")
        elif name not in here:
            found.append(f"this run has no {name}")
        elif (shape := getattr(there[name], "shape", ())) != here[name].shape:
            found.append(f"{name} is {list(shape)} there and {list(here[name].shape)} here")
        elif not bool(torch.isfinite(there[name]).all()):
            found.append(f"{name} is not finite there")
    return found
