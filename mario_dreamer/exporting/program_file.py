"""Write an acting program as a .pt2 file, with a card (JSON) that describes it."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass
class ProgramInfo:
    """What a user of the program needs to know and cannot read off its tensors.

    Args:
        env: options of the environment it was trained in, plain values.
        action_names: of the actions, in the order of the one-hot vector, [A].
        shapes: observation key -> shape of one observation.
        actions: their `kind`; the options of each of several `choices`; `low` and `high`, the
            env's own range, which [-1, 1] stands for, None where there is none; of a Gymnasium env
            also `start`, `shape` and `is_whole`, see `OwnActions`.
        screens: image key -> [H, W, C] of the env's picture, where the agent's is that one resized.
    """

    env: Mapping[str, Any]
    action_names: Sequence[str]
    shapes: Mapping[str, tuple[int, ...]]
    actions: Mapping[str, Any] = field(default_factory=dict)
    screens: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, program: ActingProgram, env: EnvBase, options: Mapping[str, Any]) -> ProgramInfo:
        """Gather it from an environment like those that the agent was trained in.

        Args:
            program: has the observation keys.
            env: [N] environments.
        """
        spec = env.observation_spec
        shown = program.policy.world_model.observation_keys
        shapes = {key: tuple(spec[key].shape[1:]) for key in shown}
        head, spec = program.actor, env.base_env.action_spec
        actions = {"kind": head.kind, "choices": getattr(head, "choices", None)}
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
        return cls(dict(options), action_names(env), shapes, actions, screens)

    @property
    def is_mario(self) -> bool:
        """Whether it is Super Mario Bros, which has stages and buttons."""
        return {"stage", "crop_top", "max_pool"} <= set(self.env)

    def picture(self) -> dict[str, Any] | None:
        """How a raw screen becomes `pixels`; None where the environment yields them."""
        if not self.is_mario or "pixels" not in self.shapes:
            return None
        return {
            "screen": list(SCREEN),
            "max_pool": bool(self.env["max_pool"]),
            "crop_top": int(self.env["crop_top"]),
            "size": list(self.shapes["pixels"][1:]),
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
    """

    def __init__(self, program: ActingProgram, info: ProgramInfo) -> None:
        self.program, self.info = program, info
        inputs = example_inputs(program, info.shapes, games=2)
        games = torch.export.Dim("games", min=1, max=GAMES)
        shapes = {
            name: {key: {0: games} for key in value} if isinstance(value, dict) else {0: games}
            for name, value in inputs.items()
        }
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # torch's of its exporter
            self.exported = torch.export.export(
                program, (), inputs, dynamic_shapes=shapes, strict=False
            )
            outputs = program(**inputs)
        self.described = {"inputs": _described(inputs), "outputs": _described(outputs)}

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
        info, env = self.info, self.info.env
        card = {
            "format": "mario_dreamer acting program",
            "version": 1,
            "program": path.name,
            "sha256": hashlib.sha256(program.getbuffer()).hexdigest(),
            "torch": str(torch.__version__),
            "checkpoint": checkpoint,
            "agent_steps": agent_steps,
            "stage": str(env["stage"]) if info.is_mario else None,
            "action_names": list(info.action_names),
            "actions": dict(info.actions),
            "buttons": [button_byte(n) for n in info.action_names] if info.is_mario else None,
            "action_repeat": int(env.get("action_repeat", 1)),
            "picture": info.picture(),
            "screens": dict(info.screens),
            **self.described,
        }
        path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")
        return path.with_suffix(".json")


def _described(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _described(value)
        if isinstance(value, dict)
        else {"shape": ["N", *value.shape[1:]], "dtype": str(value.dtype).removeprefix("torch.")}
        for name, value in values.items()
    }
