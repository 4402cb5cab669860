"""A checkpoint brought back to life, for playing and looking: no optimiser, no replay."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from torchrl.envs import EnvBase

from mario_dreamer.agent.policy import Policy
from mario_dreamer.config import build, compose
from mario_dreamer.config.stored import stored_config
from mario_dreamer.training.checkpoint_files import CheckpointError, find_run
from mario_dreamer.training.learner import Learner
from mario_dreamer.training.snapshot import load_agent

__all__ = ["Session", "find_checkpoint", "open_session", "shipped_checkpoint", "steps_of"]


@dataclass
class Session:
    """An agent with worlds to play in.

    Args:
        cfg: the configuration it was made with.
        checkpoint: where its weights came from; None for a fresh agent that acts at random.
        policy: plays; `policy.world_model` foresees.
        env: the worlds, carrying the policy's state.
        learner: holds all modules.
    """

    cfg: DictConfig
    checkpoint: Path | None
    policy: Policy
    env: EnvBase
    learner: Learner

    @property
    def action_repeat(self) -> int:
        """Frames per agent step."""
        return int(self.cfg.env.get("action_repeat", 1))

    @property
    def env_options(self) -> dict[str, Any]:
        """Options of the env as plain values, `_target_` among them."""
        return OmegaConf.to_container(self.cfg.env, resolve=True)

    def make_env(self, num_envs: int, seed: int, **changes: Any) -> EnvBase:
        """Build further envs of the same kind, which do not carry the policy's state."""
        return build.make_env(self.cfg, num_envs, seed, **changes)


def shipped_checkpoint() -> Path | None:
    """Return the checkpoint that comes with the package, if it does."""
    path = Path(str(files("mario_dreamer"))) / "shipped"
    return path if (path / "manifest.json").is_file() else None


def steps_of(checkpoint: Path) -> int | None:
    """Return the agent steps a checkpoint was trained for; None when it does not say."""
    try:
        return int(json.loads((checkpoint / "manifest.json").read_text())["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def open_session(cfg: DictConfig, num_envs: int, **env_changes: Any) -> Session:
    """Build the agent of a checkpoint and worlds for it.

    Args:
        cfg: an entry point's configuration, with checkpoint, runs_dir, device, precision,
            threads, seed, trust_config and env (options that override the stored ones).
            checkpoint: latest | shipped | none (a random policy) | a folder | auto (latest,
            else shipped, else none).
        num_envs: N.
        env_changes: options of the worlds that override everything.

    Raises:
        CheckpointError: when there is no whole checkpoint, or it does not fit.
        ValueError: when the stored configuration builds classes from elsewhere.
    """
    checkpoint = find_checkpoint(str(cfg.checkpoint), str(cfg.runs_dir))
    if checkpoint is not None and checkpoint == shipped_checkpoint() and cfg.checkpoint == "auto":
        print(f"no run in {cfg.runs_dir}: the agent that comes with the package plays")
    if checkpoint is None:
        stored = compose.compose_default()
        print("no checkpoint yet: an untrained agent that draws its actions uniformly plays")
    else:
        stored = stored_config(checkpoint, cfg.trust_config)
    with open_dict(stored):
        stored.device, stored.precision = cfg.device, cfg.precision
        stored.env = OmegaConf.merge(stored.env, cfg.env or {})
    build.set_threads(cfg.threads)
    build.seed_everything(cfg.seed)
    env = build.make_env(stored, num_envs, cfg.seed, **env_changes)
    agent = build.make_agent(stored, env)
    learner = build.make_learner(stored, agent)
    if checkpoint is not None:
        load_agent(learner.modules, checkpoint)
    if learner.average is not None and cfg.get("weights", "average") == "average":
        agent.world_model.load_state_dict(learner.average["world_model"].state_dict())
        agent.actor.load_state_dict(learner.average["actor"].state_dict())
    policy, env = build.make_policy(agent, learner, env)
    policy.uniform = checkpoint is None
    return Session(stored, checkpoint, policy, env, learner)


def find_checkpoint(where: str, runs_dir: str) -> Path | None:
    """Return the folder that `checkpoint=` or `init_from=` means; None: an untrained agent.

    Args:
        where: none | shipped | auto | latest | a run or checkpoint folder.
        runs_dir: folder of the runs.

    Raises:
        CheckpointError: when there is no whole checkpoint.
    """
    if where == "none":
        return None
    if where == "shipped":
        if (shipped := shipped_checkpoint()) is None:
            raise CheckpointError("no checkpoint came with this installation; train one first.")
        return shipped
    if where != "auto":
        return find_run(where, runs_dir)
    if any(Path(runs_dir).glob("*/checkpoints/step_*")):
        return find_run("latest", runs_dir)
    return shipped_checkpoint()
