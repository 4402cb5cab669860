"""Write an acting program as a .pt2 file, with a card (JSON) that describes it."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchrl.envs import EnvBase

from mario_dreamer import keys
from mario_dreamer.envs.actions import OwnActions, action_range
from mario_dreamer.envs.mario.buttons import action_names
from mario_dreamer.envs.mario.emulator import SCREEN, button_byte
from mario_dreamer.envs.observations import ToObservations
from mario_dreamer.envs.torchrl import transforms_of
from mario_dreamer.exporting.acting_program import ActingProgram

PROGRAM = "policy.pt2"
GAMES = 4096  # most games in a batch


def describe(program: ActingProgram, env: EnvBase, options: Mapping[str, Any]) -> dict[str, Any]:
    """Gather what a user of the program needs to know and cannot read off its tensors.

    Args:
        env: [N] environments like those that the agent was trained in.
        options: of these environments, plain values.

    Returns:
        part of the card: `stage` and `buttons` of Mario, else None; `action_names` in the order of
        the one-hot vector, [A]; `actions`: their `kind`, the options of each of several `choices`,
        `low` and `high`, the env's own range, which [-1, 1] stands for, None where there is none,
        and `start`, `shape` and `is_whole`, see `OwnActions`; `action_repeat`;
        `picture`, see `picture_rules`, None where the env yields `pixels` itself; `screens`: image
        key -> [H, W, C] of the env's picture, where the agent's is that one resized.
    """
    head, spec = program.actor, env.base_env.action_spec
    actions = {"kind": head.kind, "choices": getattr(head, "choices", None), "start": []}
    actions |= {"shape": [] if head.kind == "onehot" else [-1], "is_whole": False}
    bounds = action_range(spec) or (None, None)
    for end, bound in zip(("low", "high"), bounds, strict=True):
        # As short as they were typed: float32's 0.1 is beyond float64's.
        actions[end] = None if bound is None else [float(str(x)) for x in bound[0].numpy()]
    for own in transforms_of(env, OwnActions):
        actions |= own.form
    screens = {
        key: list(view.shape)
        for own in transforms_of(env, ToObservations)
        for key, view in zip(own.out_keys, own.views.values(), strict=True)
        if view is not None and view.is_only_resized
    }
    names, is_mario = action_names(env), {"stage", "crop_top", "max_pool"} <= set(options)
    seen = program.policy.world_model.observation_keys
    has_screen = is_mario and "pixels" in seen and not options.get("grayscale")
    picture = picture_rules(options, env.observation_spec["pixels"].shape) if has_screen else None
    return {
        "stage": str(options["stage"]) if is_mario else None,
        "action_names": list(names),
        "actions": actions,
        "buttons": [button_byte(name) for name in names] if is_mario else None,
        "action_repeat": int(options.get("action_repeat", 1)),
        "picture": picture,
        "screens": screens,
    }


def picture_rules(options: Mapping[str, Any], shape: Sequence[int]) -> dict[str, Any]:
    """Describe how a raw screen of Mario becomes `pixels`.

    Args:
        options: of the environment.
        shape: of `pixels`, [..., H, W].
    """
    return {
        "screen": list(SCREEN),
        "max_pool": bool(options["max_pool"]),
        "crop_top": int(options["crop_top"]),
        "size": list(shape[-2:]),
        "steps": [
            "max_pool: the brighter of the last two raw frames of a step, value by value",
            "the first frame of an episode, or of a step that it ends, stands alone",
            "cut crop_top rows off the top; channels first",
            "torch.nn.functional.interpolate(uint8, size, mode='bilinear', antialias=True)",
        ],
    }


def example_inputs(program: ActingProgram, shapes: Mapping[str, Sequence[int]], games: int) -> dict:
    """Make arguments for the program: episodes that open on black frames.

    Args:
        shapes: observation key -> shape of one observation.
        games: N.
    """
    rssm = program.policy.world_model.rssm
    seen: dict[str, Tensor] = {
        key: torch.zeros(games, *shape, dtype=torch.uint8 if keys.is_image(key) else torch.float32)
        for key, shape in shapes.items()
    }
    return {
        "observation": seen,
        "prev_action": torch.zeros(games, rssm.action_dim),
        "deter": torch.zeros(games, rssm.deter_dim),
        "stoch": torch.zeros(games, *rssm.stoch_shape),
        "is_first": torch.ones(games, dtype=torch.bool),
        "noise": torch.full((games, rssm.stoch_shape[0] + program.actor.noise_dim), 0.5),
        "greedy": torch.zeros(games, dtype=torch.bool),
    }


class ProgramFile:
    """Export a program once; write it and its card as often as its weights change.

    Args:
        program: one step of acting; `program.take(policy)` brings its weights up to date.
        env, options: see `describe`.
    """

    def __init__(self, program: ActingProgram, env: EnvBase, options: Mapping[str, Any]) -> None:
        self.program, self.about = program, describe(program, env, options)
        spec = env.observation_spec
        seen = {key: spec[key].shape[1:] for key in program.policy.world_model.observation_keys}
        inputs = example_inputs(program, seen, games=2)
        games = torch.export.Dim("games", min=1, max=GAMES)
        shapes = _each(inputs, lambda tensor: {0: games})
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # torch's of its exporter
            self.exported = torch.export.export(
                program, (), inputs, dynamic_shapes=shapes, strict=False
            )
            outputs = program(**inputs)
        self.about |= {"inputs": _each(inputs, _form), "outputs": _each(outputs, _form)}

    def write(self, path: Path, checkpoint: str, agent_steps: int | None) -> Path:
        """Write the program as it is now, and its card.

        Args:
            path: the .pt2 file; its folder is made. The card is the same name with .json.
            agent_steps: how long it was trained; None: unknown.

        Returns:
            the card's path.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        program = io.BytesIO()  # writing to a full disk, C++ would end the process
        with warnings.catch_warnings(action="ignore"):
            torch.export.save(self.exported, program)
        path.write_bytes(program.getbuffer())
        card = {
            "format": "mario_dreamer acting program",
            "version": 1,
            "program": path.name,
            "sha256": hashlib.sha256(program.getbuffer()).hexdigest(),
            "torch": str(torch.__version__),
            "checkpoint": checkpoint,
            "agent_steps": agent_steps,
            "noise": "uniform in [0, 1), new numbers at each step: S for the state, then the action's",
            **self.about,
        }
        path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")
        return path.with_suffix(".json")


def _each(values: Mapping[str, Any], call: Callable[[Tensor], Any]) -> dict[str, Any]:
    """What a call says of every tensor of a nested dictionary."""
    return {
        name: _each(value, call) if isinstance(value, dict) else call(value)
        for name, value in values.items()
    }


def _form(tensor: Tensor) -> dict[str, Any]:
    return {"shape": ["N", *tensor.shape[1:]], "dtype": str(tensor.dtype).removeprefix("torch.")}
