"""Load a checkpoint for playing: no optimizer, no losses, no replay.

In `config`, because the stored configuration says what to build, and only this folder builds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn
from torchrl.envs import EnvBase, StepCounter

from mario_dreamer.agent.distribution_module import DistributionModule
from mario_dreamer.agent.policy import Policy
from mario_dreamer.agent.world_model import WorldModel
from mario_dreamer.config import build, compose, limits
from mario_dreamer.config.stored import stored_config
from mario_dreamer.envs.base import close_env
from mario_dreamer.precision import autocast_dtype
from mario_dreamer.training.acceleration import resolve_device
from mario_dreamer.training.checkpoint_files import (
    CheckpointError,
    find_checkpoint,
    read_manifest,
    shipped_checkpoint,
    steps_of,
)
from mario_dreamer.training.evaluation import Episode, play_episodes
from mario_dreamer.training.filming import film
from mario_dreamer.training.snapshot import load_weights


@dataclass(frozen=True)
class LoadedAgent:
    """An agent in memory, ready to play, independent of its checkpoint's files.

    Args:
        cfg: the configuration it was made with, options of the env changed as asked for.
        checkpoint: where its weights came from; None for a fresh agent that acts at random.
        steps: agent steps it was trained for; None: unknown.
        sha256: sum of its weights' file; None without a checkpoint.
        policy: plays; `policy.world_model` predicts.
        critic: distribution over returns.
        gamma: the discount it was trained with.
    """

    cfg: DictConfig
    checkpoint: Path | None
    steps: int | None
    sha256: str | None
    policy: Policy
    critic: DistributionModule
    gamma: float

    @property
    def world_model(self) -> WorldModel:
        """Encoder, RSSM, decoders, reward and continue heads."""
        return self.policy.world_model

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.policy.parameters()).device

    @property
    def dtype(self) -> torch.dtype | None:
        """Autocast type; None for float32."""
        return self.policy.autocast_dtype

    @property
    def action_repeat(self) -> int:
        """Frames per agent step."""
        return int(self.cfg.env.get("action_repeat", 1))

    @property
    def env_options(self) -> dict[str, Any]:
        """Options of the env as plain values, `_target_` among them."""
        return OmegaConf.to_container(self.cfg.env, resolve=True)

    def truncating(self, max_steps: int) -> dict[str, int]:
        """Return the change that ends an episode of `make_env` after so many steps: it counts then.

        Args:
            max_steps: agent steps; fewer where the env's own limit is lower.
        """
        return {"max_steps": min(max_steps, self.cfg.env.get("max_steps") or max_steps)}

    def make_env(self, num_envs: int = 1, seed: int = 0, **changes: Any) -> EnvBase:
        """Build [N] envs as it was trained in, which carry the policy's state.

        torch's random state stays as it is.

        Args:
            num_envs: N.
            seed: of the envs' own randomness.
            changes: options that differ, such as stage="1-2"; and max_steps, whether the env has
                that option or not.
        """
        has_limit = "max_steps" in self.cfg.env
        limit = None if has_limit else changes.pop("max_steps", None)
        with torch.random.fork_rng(devices=[]):
            env = build.make_env(self.cfg, num_envs, seed, **changes)
        if limit is not None:
            env = env.append_transform(StepCounter(limit, step_count_key="steps_of_limit"))
        return env.append_transform(self.policy.make_tensordict_primer())

    def play(self, env: EnvBase | None = None, greedy: bool = False) -> Episode:
        """Play one episode; its `frames` are uint8 [T, 3, H, W] where the env shows pictures.

        Args:
            env: of `make_env`; None makes one.
            greedy: take the likeliest action; otherwise sample.
        """
        own = self.make_env() if env is None else env
        episode = play_episodes(self.policy, own, 1, greedy, film)[0]
        if env is None:
            close_env(own)
        return episode


def load_agent(
    checkpoint: str | Path = "auto",
    *,
    runs_dir: str | Path = "runs",
    weights: str = "average",
    device: str = "auto",
    precision: str = "auto",
    env: Mapping[str, Any] | None = None,
    trust_config: bool = False,
) -> LoadedAgent:
    """Load the agent of a checkpoint.

    Args:
        checkpoint: latest | best | shipped | none (a random policy) | the folder of a run or of a
            checkpoint | auto (latest; shipped where runs_dir holds no run; else none).
        runs_dir: folder of the runs, for latest and best.
        weights: "average" of the last updates where the checkpoint holds it, or "latest".
        device, precision: as for training.
        env: options of the env to change, such as {"stage": "1-2"}.
        trust_config: accept classes from anywhere in the stored configuration.

    Raises:
        CheckpointError: when there is no whole checkpoint, or it does not fit.
        ValueError: for an option the env does not have; when the stored configuration builds what
            it may not.
    """
    if weights not in ("average", "latest"):
        raise ValueError(f"weights={weights!r}: expected average or latest.")
    while True:
        path = find_checkpoint(str(checkpoint), str(runs_dir))
        try:
            return _load(path, weights, device, precision, env or {}, trust_config)
        except CheckpointError:
            # A run in training may have replaced it by a newer one between two looks.
            if path is None or path.exists():
                raise


def _load(
    checkpoint: Path | None,
    weights: str,
    device: str,
    precision: str,
    changes: Mapping[str, Any],
    trust: bool,
) -> LoadedAgent:
    stored = compose.compose_default() if checkpoint is None else stored_config(checkpoint, trust)
    unknown = [name for name in changes if name not in stored.env]
    if unknown:
        known = ", ".join(str(name) for name in stored.env if name != "_target_")
        raise ValueError(f"env.{unknown[0]} is no option of this agent's env; it has {known}.")
    with open_dict(stored):
        stored.device, stored.precision = device, precision
        stored.env = OmegaConf.merge(stored.env, dict(changes))
    if changes:
        limits.check_numbers(OmegaConf.create({"env": stored.env}))
    place = resolve_device(device)
    env = build.make_env(stored, 1, 0)
    agent = build.make_agent(stored, env)
    close_env(env)
    modules = nn.ModuleDict(vars(agent)).to(place)
    steps = sha256 = None
    if checkpoint is not None:
        try:
            load_weights(modules, checkpoint, weights == "average")
        except CheckpointError as error:
            if not changes:
                raise
            typed = " ".join(f"env.{name}={value}" for name, value in changes.items())
            raise CheckpointError(
                f"{typed} changes what the agent was built for: {error}"
            ) from error
        steps = steps_of(checkpoint)
        sha256 = read_manifest(checkpoint)["files"]["agent.pt"]["sha256"]
    policy = Policy(agent.world_model, agent.actor, autocast_dtype(precision, place))
    policy.uniform = checkpoint is None
    gamma = float(stored.loss.discount.gamma)
    return LoadedAgent(stored, checkpoint, steps, sha256, policy, agent.critic, gamma)


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
    elif agent.steps < agent.cfg.get("prefill", 0) and not agent.cfg.get("init_from"):
        print(
            f"{agent.checkpoint} has learned nothing: it stands at agent step {agent.steps:,}, and "
            f"learning begins at {agent.cfg.prefill:,}; checkpoint=shipped is the agent that comes "
            "with the package"
        )
    return agent
