"""Write an acting program as an MLflow model, log it into a run, register it."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mario_dreamer.tracking.mlflow import models
from mario_dreamer.tracking.mlflow.run import known_or_new_run
from mario_dreamer.tracking.mlflow.store import import_mlflow, open_store

if TYPE_CHECKING:
    import numpy as np
    from mlflow.models import ModelSignature

PLAYER = Path(__file__).with_name("mlflow_player.py")
NEEDED = ("mlflow", "torch", "numpy", "pandas")  # what the player imports, nothing else


def _signature(card: Mapping[str, Any]) -> ModelSignature:
    """Inferred from an example of what `DreamerPlayer.predict` takes and answers."""
    import pandas as pd
    from mlflow.models import infer_signature

    from mario_dreamer.exporting.mlflow_player import PARAMS, answer

    action = torch.zeros(card["inputs"]["prev_action"]["shape"][1])
    row = answer(card, action) | {"step": 0}
    return infer_signature(_input_example(card), pd.DataFrame([row]), PARAMS)


def _input_example(card: Mapping[str, Any]) -> np.ndarray | dict[str, np.ndarray]:
    """What the player takes of each observation: uint8 [1, H, W, C], or float32 [1, V].

    Frames alone stand for themselves.
    """
    import numpy as np

    from mario_dreamer.exporting.mlflow_player import screen_of

    examples = {}
    for key, spec in card["inputs"]["observation"].items():
        shape = screen_of(card, key) if spec["dtype"] == "uint8" else spec["shape"][1:]
        examples[key] = np.zeros((1, *shape), spec["dtype"])
    return examples["pixels"] if list(examples) == ["pixels"] else examples


def save_model(
    program: Path, card_file: Path, folder: Path, tags: Mapping[str, str] | None = None
) -> Path:
    """Write an MLflow model into a folder, replacing one that is there.

    `mlflow.pyfunc.load_model(folder)` plays with it wherever the pinned requirements are.

    Args:
        program: the .pt2 file.
        tags: for the model's metadata, such as its success rate.

    Returns:
        the folder.

    Raises:
        ValueError: `folder` holds something else.
    """
    mlflow = import_mlflow()
    if folder.exists():
        if not (folder / "MLmodel").is_file() and any(folder.iterdir()):
            raise ValueError(f"{folder} holds something that is no MLflow model; choose another.")
        shutil.rmtree(folder)
    card = json.loads(card_file.read_text("utf-8"))
    kept = ("checkpoint", "agent_steps", "stage", "action_repeat")
    with warnings.catch_warnings(action="ignore"):  # MLflow's hints about type hints and schemas
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(PLAYER),
            artifacts={"program": str(program.resolve()), "card": str(card_file.resolve())},
            signature=_signature(card),
            input_example=_input_example(card),
            # Pinned to what writes the model; without local parts such as +cpu.
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in NEEDED],
            metadata={**{key: card[key] for key in kept}, **(tags or {})},
        )
    return folder


def log_model(
    program: Path,
    card_file: Path,
    tracking_uri: str,
    register: str,
    run_id: str | None = None,
    experiment: str = "mario-dreamer",
    tags: Mapping[str, str] | None = None,
) -> str:
    """Log the model into an MLflow run, and register it under a name.

    Args:
        program, card_file: see `save_model`.
        register: name of the registered model; this becomes its newest version.
        run_id: the run that trained it; None, or one that is not there: a new run.
        tags: of the model and of the registered version, such as its success rate.

    Returns:
        the model's URI, models:/NAME/VERSION.
    """
    tags = dict(tags or {})
    client = open_store(tracking_uri)
    run_id = known_or_new_run(client, run_id, "export", experiment)
    step = int(json.loads(card_file.read_text("utf-8"))["agent_steps"] or 0)
    with tempfile.TemporaryDirectory() as place:
        folder = save_model(program, card_file, Path(place) / "model", tags)
        model = models.log_model(client, run_id, folder, step, tags=tags)
    version = models.register_model(client, run_id, model, register, tags)
    return f"models:/{register}/{version}"
