"""An agent and envs for it, as the options of a command ask for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torchrl.envs import EnvBase

from mario_dreamer.agent.policy import Policy
from mario_dreamer.config import build
from mario_dreamer.config.load_agent import LoadedAgent, load_agent, shipped_checkpoint

__all__ = ["Session", "agent_of", "open_session"]


@dataclass(frozen=True)
class Session:
    """An agent with envs to play in.

    Args:
        agent: in memory.
        env: [N] envs that carry the policy's state.
    """

    agent: LoadedAgent
    env: EnvBase

    @property
    def cfg(self) -> DictConfig:
        """The configuration that the agent was made with."""
        return self.agent.cfg

    @property
    def checkpoint(self) -> Path | None:
        """Where the weights came from; None for a fresh agent that acts at random."""
        return self.agent.checkpoint

    @property
    def policy(self) -> Policy:
        """The policy that plays."""
        return self.agent.policy

    @property
    def action_repeat(self) -> int:
        """Frames per agent step."""
        return self.agent.action_repeat

    @property
    def env_options(self) -> dict[str, Any]:
        """Options of the env as plain values, `_target_` among them."""
        return self.agent.env_options

    def make_env(self, num_envs: int, seed: int, **changes: Any) -> EnvBase:
        """Build further envs of the same kind, which do not carry the policy's state."""
        return build.make_env(self.cfg, num_envs, seed, **changes)


def agent_of(cfg: DictConfig) -> LoadedAgent:
    """Load the agent that a command's options name; seed everything first.

    Args:
        cfg: with checkpoint, runs_dir, weights, device, precision, threads, seed, trust_config
            and env; see configs/session.yaml.

    Raises:
        CheckpointError, ValueError: as `load_agent`.
    """
    build.set_threads(cfg.threads)
    build.seed_everything(cfg.seed)
    agent = load_agent(
        str(cfg.checkpoint),
        runs_dir=str(cfg.runs_dir),
        weights=str(cfg.get("weights", "average")),
        device=str(cfg.device),
        precision=str(cfg.precision),
        env=OmegaConf.to_container(cfg.env, resolve=True) if cfg.env else None,
        trust_config=cfg.trust_config,
    )
    if agent.checkpoint is None:
        print("no checkpoint yet: an untrained agent that draws its actions uniformly plays")
    elif agent.checkpoint == shipped_checkpoint() and cfg.checkpoint == "auto":
        print(f"no run in {cfg.runs_dir}: the agent that comes with the package plays")
    return agent


def open_session(cfg: DictConfig, num_envs: int, **env_changes: Any) -> Session:
    """Load an agent and build envs for it.

    Args:
        cfg: see `agent_of`.
        num_envs: N.
        env_changes: options of the envs that override everything.

    Raises:
        CheckpointError, ValueError: as `load_agent`.
    """
    agent = agent_of(cfg)
    with torch.random.fork_rng(devices=[]):
        env = agent.make_env(num_envs, cfg.seed, **env_changes)
    return Session(agent, env)
