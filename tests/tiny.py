"""A whole agent of sizes 2 to 16 in the counting env, built as a run builds its own."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict, TensorDictBase
from torch import nn
from torchrl.envs import EnvBase

from mario_dreamer.agent.policy import Policy
from mario_dreamer.config import build, compose
from mario_dreamer.config.command_line import CONFIGS
from mario_dreamer.config.command_words import parse
from mario_dreamer.replay import Replay
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import MANIFEST, file_info
from mario_dreamer.training.learner import Learner
from mario_dreamer.training.loop import Parts
from mario_dreamer.training.report import Report
from mario_dreamer.training.snapshot import Saved, Snapshot

SIZES = [
    "env=counting", "env.image_size=16", "env.length=6", "size.deter=16", "size.hidden=8",
    "size.stoch=3", "size.classes=4", "size.depth=2", "size.units=8", "size.head_layers=1",
    "size.behaviour_layers=1", "encoder=cnn_strided", "decoder=cnn_strided",
    "rssm/sequence_model=gru", "batch_size=3", "batch_length=5", "imag_horizon=3", "device=cpu",
    "precision=fp32", "threads=1", "replay.capacity=400", "replay.latents=true", "tracker=none",
    "optimizer.warmup=0", "optimizer.lr=0.001", "collector.num_envs=2",
    "collector.steps_per_env=4",
]  # fmt: skip


@dataclass
class Silence:
    """A tracker that remembers what it was shown."""

    shown: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.shown.append((step, dict(metrics)))

    def log_video(self, *args: Any, **options: Any) -> None:
        pass

    def log_image(self, *args: Any, **options: Any) -> None:
        pass

    def log_artifact(self, *args: Any, **options: Any) -> None:
        pass

    def log_model(self, *args: Any, **options: Any) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self, status: str = "FINISHED") -> None:
        pass


@dataclass
class Tiny:
    """The parts of a tiny run."""

    cfg: DictConfig
    env: EnvBase
    agent: build.Agent
    learner: Learner
    policy: Policy
    replay: Replay

    def collect(self, steps: int, exploration: Any = None) -> TensorDictBase:
        """Play; transitions [N, steps], as a collector yields them."""
        collector = build.make_collector(self.cfg, self.env, self.policy, torch.device("cpu"))
        collected, per_batch = [], self.cfg.collector.steps_per_env
        for transitions in collector:
            collected.append(transitions.clone())
            if len(collected) * per_batch >= steps:
                break
        return torch.cat(collected, 1)[:, :steps]

    def fill(self, steps: int = 24) -> Tiny:
        """Play `steps` steps in each env and store them."""
        self.replay.extend(self.collect(steps))
        return self

    def parts(self, folder: Any, keep: int = 2, evaluate: Any = None) -> tuple[Parts, build.Run]:
        """What the training loop takes, with a tracker that keeps what is logged."""
        run, ratio = build.make_run(self.cfg), build.make_ratio(self.cfg)
        report = Report(Silence(), None, evaluate, 1, self.replay.__len__)
        collector = build.make_collector(self.cfg, self.env, self.policy, torch.device("cpu"))
        config = OmegaConf.to_yaml(self.cfg, resolve=True)
        snapshot = Snapshot(Checkpoints(folder, keep), report, config, "run-1")
        parts = Parts(
            collector, self.env, self.policy, self.replay, self.learner, ratio, report, snapshot
        )
        return parts, run


# Two envs, four steps each: eight agent steps a batch; 15 replayed records an update.
LOOP = ["train_ratio=7.5", "log_every=16", "save_every=16", "eval_every=0", "steps=48"]


def make_loop(folder: Path, *options: str, **changes: Any) -> tuple[Tiny, Parts, build.Run]:
    """A tiny agent, and all that `train` takes to let it learn."""
    tiny = make_tiny(*LOOP, *options)
    return (tiny, *tiny.parts(folder, **changes))


def sign_files(checkpoint: Path, step: int = 48) -> None:
    """Write a manifest that agrees with the files at hand, as an attacker would."""
    own = [path for path in checkpoint.iterdir() if path.is_file() and path.name != MANIFEST]
    files = {path.name: file_info(path) for path in own}
    (checkpoint / MANIFEST).write_text(json.dumps({"step": step, "files": files}))


def restore(parts: Parts, path: Path, env_options: str = "") -> int:
    """Put a checkpoint into fresh parts, as `train resume=` does; return the agent steps played."""
    saved = Saved.read(path, parts.processes)
    saved.restore(parts, env_options)
    saved.restore_report(parts.report)
    return saved.agent_steps


def tiny_config(*overrides: str, without: Sequence[str] = ()) -> DictConfig:
    """Compose configs/train.yaml in tiny sizes; `without` names those that an env lacks.

    As Hydra does it, values are set in what the choices give: that is composed once a process.
    """
    values = [word for word in overrides if _sets_a_value(word)]
    choices = [word for word in overrides if word not in values]
    sizes = [word for word in SIZES if word.split("=")[0] not in without]
    return _with_values(copy.deepcopy(_composed(*sizes, *choices)), values)


@functools.cache
def _composed(*words: str) -> DictConfig:
    values = [word for word in words if _sets_a_value(word)]
    return _with_values(compose.compose_default([w for w in words if w not in values]), values)


def _with_values(cfg: DictConfig, words: list[str]) -> DictConfig:
    for override in parse(words):
        name, is_added = override.key_or_group, override.is_add()
        OmegaConf.update(cfg, name, override.value(), merge=True, force_add=is_added)
    return cfg


def _sets_a_value(word: str) -> bool:
    """Whether a word sets one value, and chooses or drops nothing, and adds to the env at most."""
    name = word.partition("=")[0].removeprefix("+env.")
    is_choice = (CONFIGS / name).is_dir() or name.startswith(("+", "~"))
    return not (is_choice or "_target_" in name or "@" in name)


def make_tiny(*overrides: str, seed: int = 0, without: Sequence[str] = ()) -> Tiny:
    """Build a tiny agent; what is typed on a command line changes it."""
    cfg = tiny_config(*overrides, without=without)
    build.seed_everything(seed)
    env = build.make_env(cfg, cfg.collector.num_envs, cfg.seed)
    agent = build.make_agent(cfg, env)
    learner = build.make_learner(cfg, agent)
    policy, env = build.make_policy(agent, learner, env)
    return Tiny(cfg, env, agent, learner, policy, build.make_replay(cfg, learner.device))


def tiny_with(target: str, *overrides: str) -> Tiny:
    """Build a tiny agent in an env that is not among the configurations."""
    dead = [f"~env.{name}" for name in ("ending", "num_actions", "action_repeat")]
    dead += ["~env.length", "~env.image_size", f"env._target_={target}"]
    return make_tiny(*dead, *overrides, without=["env.length", "env.image_size"])


def depend_on_what_is_seen(module: nn.Module, seed: int = 0) -> None:
    """Add noise to a module's weights, but not to its biases: a fresh actor is nearly uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator))


def gradients(module: nn.Module) -> list[str]:
    """Names of the parameters that have a gradient other than zero."""
    return [
        name
        for name, param in module.named_parameters()
        if param.grad is not None and bool(param.grad.abs().sum() > 0)
    ]


def random_records(batch: int = 3, length: int = 5, size: int = 16, actions: int = 3) -> TensorDict:
    """Records [batch, length] of noise, no episode ends inside."""
    shape = (batch, length)
    flag = torch.zeros(*shape, 1, dtype=torch.bool)
    first = flag.clone()
    first[:, 0] = True
    records = {
        "pixels": torch.randint(0, 256, (*shape, 3, size, size), dtype=torch.uint8),
        "prev_action": torch.eye(actions)[torch.randint(actions, shape)],
        "reward": torch.randn(*shape, 1),
        "is_first": first,
        "is_last": flag.clone(),
        "is_terminal": flag.clone(),
    }
    return TensorDict(records, batch_size=shape)

