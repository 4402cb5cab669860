"""A tiny agent in a toy env, as the viewer loads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from mario_dreamer.config import build, compose
from mario_dreamer.config.load_agent import LoadedAgent, agent_of
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.viewer.agents import Agents, ViewedAgent
from mario_dreamer.viewer.simulation import Simulation


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the runs tiny and wide, of the same fresh agent."""
    folder = tmp_path_factory.mktemp("runs")
    cfg = compose.compose_default(["experiment=debug", "device=cpu"])
    build.seed_everything(0)
    learner = build.make_learner(cfg, build.make_agent(cfg, build.make_env(cfg, 1, 0)))
    files = {"agent": learner.modules.state_dict()}
    for name, cells in (("tiny", cfg.env.cells), ("wide", 16)):
        cfg.env.cells = cells
        texts = {"config.yaml": OmegaConf.to_yaml(cfg, resolve=True)}
        Checkpoints(folder / name / "checkpoints").save(7, files, texts)
    return folder


def agents_of(runs: Path, checkpoint: str, **options: Any) -> Agents:
    """Return the agents that the command would offer."""

    def open_agent(place: str) -> LoadedAgent:
        cfg = {
            "checkpoint": place, "runs_dir": str(runs), "trust_config": False, "device": "cpu",
            "precision": "fp32", "threads": 1, "seed": 0, "env": {},
        }  # fmt: skip
        return agent_of(OmegaConf.create(cfg))

    return Agents(open_agent, checkpoint, runs_dir=runs, **options)


@pytest.fixture(scope="session")
def offer() -> Callable[..., Agents]:
    """Return the function that makes the agents on offer: runs, checkpoint, options."""
    return agents_of


@pytest.fixture(scope="session")
def agents(runs: Path) -> Agents:
    """Return the agents on offer."""
    return agents_of(runs, str(runs / "tiny"))


@pytest.fixture
def agent(agents: Agents) -> ViewedAgent:
    """Return the tiny agent."""
    return agents.first


@pytest.fixture
def simulation(agent: ViewedAgent) -> Iterator[Simulation]:
    """Return a simulation of the tiny agent in its corridor."""
    torch.manual_seed(0)
    simulation = Simulation(agent.inspector, agent.loaded, seed=3, horizon=4)
    yield simulation
    simulation.close()
