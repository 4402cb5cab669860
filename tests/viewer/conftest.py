"""A tiny agent in a toy world, and what the viewer makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from mario_dreamer.config import build, compose
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.viewer.agents import Agents, LoadedAgent
from mario_dreamer.viewer.simulation import Simulation


def save_tiny(run: Path, *overrides: str) -> Path:
    """Write a checkpoint of a freshly made tiny agent."""
    cfg = compose.compose_default(["experiment=debug", "device=cpu", *overrides])
    build.seed_everything(0)
    env = build.make_env(cfg, 1, 0)
    learner = build.make_learner(cfg, build.make_agent(cfg, env))
    files = {"agent": learner.modules.state_dict()}
    return Checkpoints(run / "checkpoints").save(7, files, {"config.yaml": OmegaConf.to_yaml(cfg)})


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the runs tiny and wide."""
    folder = tmp_path_factory.mktemp("runs")
    save_tiny(folder / "tiny")
    save_tiny(folder / "wide", "env.cells=16")
    return folder


@pytest.fixture(scope="session")
def cfg(runs: Path) -> DictConfig:
    """Return the command's configuration."""
    return OmegaConf.create(
        {
            "checkpoint": str(runs / "tiny"), "compare": None, "runs_dir": str(runs),
            "trust_config": False, "device": "cpu", "precision": "fp32", "threads": 1, "seed": 0,
            "env": {},
        }
    )  # fmt: skip


@pytest.fixture(scope="session")
def agents(cfg: DictConfig) -> Agents:
    """Return the agents on offer."""
    return Agents(cfg)


@pytest.fixture
def agent(agents: Agents) -> LoadedAgent:
    """Return the tiny agent."""
    return agents.first


@pytest.fixture
def simulation(agent: LoadedAgent) -> Iterator[Simulation]:
    """Return a simulation of the tiny agent in its corridor."""
    torch.manual_seed(0)
    simulation = Simulation(agent.mind, agent.cfg, seed=3, horizon=4)
    yield simulation
    simulation.close()
