"""A tiny run through every command, in this process."""

from __future__ import annotations

import contextlib
import importlib
import json
from pathlib import Path

import pytest
from omegaconf import DictConfig

from mario_dreamer.commands import train
from mario_dreamer.config.command_line import compose_config
from mario_dreamer.config.compose import compose_default

# A minute at most, on one thread.
SHORT = [
    "size=debug", "precision=fp32", "threads=1", "device=cpu", "batch_size=2", "batch_length=8",
    "imag_horizon=3", "steps=64", "prefill=16", "collector.num_envs=1", "collector.eval_envs=1",
    "train_ratio=2", "eval_every=32", "eval_episodes=1", "save_every=64", "log_every=32",
    "replay.capacity=1000", "tracker=csv", "name=whole",
]  # fmt: skip


def short_config(*words: str) -> DictConfig:
    """Compose a recipe in tiny sizes."""
    return compose_default([*words, *SHORT])


def use_whole_run(
    cfg: DictConfig, folder: Path, monkeypatch: pytest.MonkeyPatch, dreams: bool
) -> dict:
    """Train, then evaluate, play, dream, report and export in `folder`; return results.json.

    An agent that reads numbers does not dream: the command says so.
    """
    monkeypatch.chdir(folder)
    assert train.run_training(cfg, [])["status"] == "FINISHED"
    _use("evaluate", "conditions=sampled", "episodes=2", "num_envs=2", "track=false")
    _use("play", "scale=1")
    refused = contextlib.nullcontext() if dreams else pytest.raises(ValueError, match="no pictures")
    with refused:
        _use("dream", "context=4", "steps=8", "rows=1", "start=0")
    _use("report", "episodes=1", "horizon=4", "track=false")
    _use("export")
    _use("export", "format=mlflow")
    made = ["play.mp4", "runs/whole/report.html", "policy.pt2", "mlflow_model/MLmodel"]
    assert [name for name in made if not (folder / name).exists()] == []
    return json.loads((folder / "evaluation/results.json").read_text())


def _use(name: str, *words: str) -> None:
    command = importlib.import_module(f"mario_dreamer.commands.{name}").main
    start = ["checkpoint=runs/whole", "trust_config=true", "device=cpu", "threads=1"]
    command(compose_config(name, [*start, *words]))

