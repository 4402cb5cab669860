"""The player inside an MLflow model: observations in, actions out, a state for each episode.

MLflow copies this file into the model ("models from code") and runs it where the model is loaded.
It needs mlflow, torch, numpy and pandas, and nothing of this package.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch

KEPT = 1024  # episodes in memory at once; the one unused for longest is dropped first
PARAMS = {"episode": "0", "reset": False, "greedy": False, "seed": 0}  # of `predict`, unless given


class DreamerPlayer(mlflow.pyfunc.PythonModel):
    """Play episodes, frame by frame, each with a memory of its own.

    `predict(frames, params)` takes the newest raw frames of one episode, uint8 [n, H, W, C] of the
    env's own size (of Mario [n, 240, 256, 3]; of the agent's size where more than the size was
    changed, such as to grey), and answers with one row: `action`, `name`, `buttons` (the controller's
    byte, of Mario) and `step`. An action is what the env takes: an index, which has a name; else
    a list of indices (several choices), of 0 and 1, or of numbers. Of a Gymnasium env it counts
    from the space's `start` and has its shape, nested lists where that has several dimensions. An
    agent that reads other observations takes a dictionary: images as above, vectors as float32
    [n, V]; the newest is last.
    One frame is enough; the agent saw the brighter of the last two frames of each step in Mario's
    training (`max_pool`), so give the last two to show it exactly that. Hold the action for
    `action_repeat` raw frames, then ask again. Parameters:

        episode   name of the episode, any text; several may be played at once
        reset     forget this episode's past: the frame opens a new one. So does a new name.
        greedy    take the likeliest action instead of a draw
        seed      of the draws, read where an episode opens
    """

    def load_context(self, context: Any) -> None:
        """Load the program and its card."""
        self.card = json.loads(Path(context.artifacts["card"]).read_text("utf-8"))
        self.program = torch.export.load(context.artifacts["program"]).module()
        self.episodes: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.lock = threading.Lock()  # a server may ask from several threads

    def predict(
        self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Choose the next action of one episode; see the class.

        `model_input` may be a dictionary of arrays; MLflow warns of any wider type than np.ndarray.
        """
        given = PARAMS | (params or {})
        seen = self.observation(model_input)
        with self.lock, torch.no_grad():
            name = str(given["episode"])
            if given["reset"] or name not in self.episodes:
                self.episodes[name] = self._opened(int(given["seed"]))
            state = self.episodes[name]
            action = self._act(state, seen, bool(given["greedy"]))
            self.episodes.move_to_end(name)
            while len(self.episodes) > KEPT:
                self.episodes.popitem(last=False)
            return pd.DataFrame([answer(self.card, action) | {"step": state["step"] - 1}])

    def observation(
        self, given: np.ndarray | dict[str, np.ndarray]
    ) -> dict[str, torch.Tensor]:
        """Turn what `predict` takes into the program's observation.

        Raises:
            ValueError: a key is missing, or a shape is another one.
        """
        specs = self.card["inputs"]["observation"]
        given = given if isinstance(given, dict) else dict.fromkeys(list(specs)[:1], given)
        if given.keys() != specs.keys():
            raise ValueError(f"expected the observations {list(specs)}, got {list(given)}.")
        return {
            key: self.picture(given[key], key)
            if spec["dtype"] == "uint8"
            else self._vector(given[key], key, spec["shape"][1:])
            for key, spec in specs.items()
        }

    def _vector(self, rows: np.ndarray, key: str, shape: list[int]) -> torch.Tensor:
        """The newest of some vectors, float32 [1, V]."""
        rows = np.asarray(rows, np.float32)
        if len(rows) == 0 or list(rows.shape[1:]) != shape or not np.isfinite(rows).all():
            raise ValueError(f"{key}: expected finite {['n', *shape]}, got {list(rows.shape)}.")
        return torch.from_numpy(rows[-1:].copy())

    def picture(self, frames: np.ndarray, key: str = "pixels") -> torch.Tensor:
        """Turn raw frames into what the agent sees, uint8 [1, C, H, W].

        Args:
            frames: uint8 [n, height, width, C], the newest last.

        Raises:
            ValueError: other frames than the agent was trained on.
        """
        frames = np.asarray(frames)
        expected = screen_of(self.card, key)
        rules = self.card["picture"] if key == "pixels" else None
        rules = rules or {"max_pool": False, "crop_top": 0}
        size = self.card["inputs"]["observation"][key]["shape"][2:]
        if frames.dtype != np.uint8 or frames.ndim != 4 or list(frames.shape[1:]) != expected:
            raise ValueError(
                f"expected frames uint8 [n, {', '.join(map(str, expected))}], "
                f"got {frames.dtype} {list(frames.shape)}."
            )
        if len(frames) == 0:
            raise ValueError("expected at least one frame, got none.")
        frame = frames[-2:].max(0) if rules["max_pool"] else frames[-1]
        picture = torch.from_numpy(np.ascontiguousarray(frame[rules["crop_top"] :]))
        picture = picture[None].movedim(-1, 1)
        if list(picture.shape[2:]) == size:
            return picture.contiguous()
        return torch.nn.functional.interpolate(
            picture, size=size, mode="bilinear", antialias=True
        ).contiguous()

    def _opened(self, seed: int) -> dict[str, Any]:
        """The state of an episode that has not begun."""
        inputs, names = self.card["inputs"], ("prev_action", "deter", "stoch")
        past = {name: torch.zeros(1, *inputs[name]["shape"][1:]) for name in names}
        return {"past": past, "step": 0, "generator": torch.Generator().manual_seed(seed)}

    def _act(
        self, state: dict[str, Any], seen: dict[str, torch.Tensor], greedy: bool
    ) -> torch.Tensor:
        """Take one step in an episode; return the program's action, [A]."""
        size = self.card["inputs"]["noise"]["shape"][1]
        out = self.program(
            observation=seen,
            **state["past"],
            is_first=torch.tensor([state["step"] == 0]),
            noise=torch.rand(1, size, generator=state["generator"]),
            greedy=torch.tensor([greedy]),
        )
        state["past"] = {"prev_action": out["action"], "deter": out["deter"], "stoch": out["stoch"]}
        state["step"] += 1
        return out["action"][0]


def screen_of(card: dict[str, Any], key: str) -> list[int]:
    """Shape of the raw pictures of an image key, [H, W, C]."""
    if key == "pixels" and card["picture"]:
        return card["picture"]["screen"]
    channels, height, width = card["inputs"]["observation"][key]["shape"][1:]
    return card["screens"].get(key, [height, width, channels])


def answer(card: dict[str, Any], action: torch.Tensor) -> dict[str, Any]:
    """What `predict` says of an action of the program, [A], but for the `step`."""
    row = {"action": as_env_takes_it(card["actions"], action)}
    if card["actions"]["kind"] == "onehot":
        row["name"] = card["action_names"][int(action.argmax())]
    if card["buttons"] is not None:
        row["buttons"] = card["buttons"][int(action.argmax())]
    return row


def as_env_takes_it(rules: dict[str, Any], action: torch.Tensor) -> Any:
    """Turn an action of the program, [A], into the env's own: a number, or nested lists.

    Args:
        rules: the card's `actions`.
    """
    kind = rules["kind"]
    if kind in ("onehot", "multi_onehot"):
        parts = [action] if kind == "onehot" else action.split(rules["choices"])
        own = torch.stack([part.argmax() for part in parts])
        own = own + torch.tensor(rules["start"] or 0)
    elif kind == "binary":
        own = action.int()
    elif rules["low"] is None:
        own = action
    else:
        low, high = (torch.tensor(rules[end], dtype=torch.float64) for end in ("low", "high"))
        own = torch.lerp(low, high, (action.double().clamp(-1.0, 1.0) + 1) / 2)
    own = own.round().long() if rules["is_whole"] else own
    return own.reshape(rules["shape"]).tolist()


mlflow.models.set_model(DreamerPlayer())
