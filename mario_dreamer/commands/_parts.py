"""Build all parts of a training run from its configuration."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from mario_dreamer.agent.policy import Policy
from mario_dreamer.config import build
from mario_dreamer.config.contracts import rehearse
from mario_dreamer.config.memory import check_memory
from mario_dreamer.config.workers import make_workers, plays_elsewhere
from mario_dreamer.envs.torchrl import describe_observations
from mario_dreamer.exporting.checkpoint_model import CheckpointModel
from mario_dreamer.tracking.progress import Progress, print_line
from mario_dreamer.tracking.run_stats import RunStats
from mario_dreamer.tracking.tracker import Tracker
from mario_dreamer.training.core import Core
from mario_dreamer.training.distributed import Processes
from mario_dreamer.training.init_from import init_from
from mario_dreamer.training.learner import Learner
from mario_dreamer.training.pictures import EvaluationReport
from mario_dreamer.training.report import Report


def describe_envs(cfg: DictConfig) -> str:
    """Return the options that decide what the envs do; a resume with others opens new episodes."""
    options = OmegaConf.to_container(cfg.env, resolve=True)
    return OmegaConf.to_yaml({key: value for key, value in options.items() if key != "threads"})


def _writes_models(cfg: DictConfig) -> bool:
    """Whether each checkpoint gets an MLflow model with it: asked for, or tracked by MLflow."""
    wanted = cfg.get("save_model", "auto")
    by_mlflow = str(cfg.tracker.get("_target_", "")).endswith("MLflowTracker")
    return by_mlflow if wanted == "auto" else bool(wanted)


def make_core(
    cfg: DictConfig,
    folder: Path,
    agent_steps: int = 0,
    source: Path | None = None,
    processes: Processes | None = None,
) -> Core:
    """Build what plays and learns; no file is written, nothing is logged.

    Args:
        agent_steps: steps played before a resume.
        source: checkpoint whose weights the run starts from.
        processes: those that train together; None: this one alone.
    """
    processes = processes or Processes()
    offset = processes.seed_offset
    # Where a resume opens new episodes, the old seed would repeat the old random numbers.
    seed, elsewhere = cfg.seed + agent_steps + offset, plays_elsewhere(cfg)
    env = build.make_env(cfg, 1 if elsewhere else cfg.collector.num_envs, seed)
    print_line(describe_observations(env))
    own_folder = folder / "replay"
    print_line(check_memory(cfg, env, processes.local_size, own_folder))
    agent = build.make_agent(cfg, env)
    rehearse(agent)
    learner = build.make_learner(cfg, agent, processes)
    if source is not None:
        taken = [cfg.init_parts] if isinstance(cfg.init_parts, str) else cfg.init_parts or []
        init_from(learner.modules, source, list(taken))
        print(f"starting from {', '.join(taken)} of {source}")
    processes.broadcast_(learner.modules.state_dict().values())
    print_line(_description(cfg, learner))
    if processes.size > 1:
        own_folder /= f"process_{processes.rank:03d}"
    policy, env = build.make_policy(agent, learner, env)
    ratio = build.make_ratio(cfg, processes.size)
    if elsewhere:
        collector = make_workers(cfg, policy, learner, ratio, processes, seed, folder)
    else:
        collector = build.make_collector(cfg, env, policy, learner.device)
    return Core(
        collector=collector,
        env=env,
        policy=policy,
        replay=build.make_replay(cfg, learner.device, str(own_folder), offset),
        learner=learner,
        ratio=ratio,
        processes=processes,
    )


def make_report(cfg: DictConfig, core: Core, tracker: Tracker, agent_steps: int = 0) -> Report:
    """Build what logs the run: numbers, evaluation, progress, models of the checkpoints.

    Of several processes only the first one evaluates, shows progress and writes models.

    Args:
        agent_steps: steps played before a resume.
    """
    learner, replay, average = core.learner, core.replay, core.learner.average
    repeat = cfg.env.get("action_repeat", 1)
    if not core.processes.first:
        return Report(tracker, None, None, repeat, replay.__len__)
    evaluated = core.policy
    if average is not None:
        evaluated = Policy(average["world_model"], average["actor"], learner.dtype)
    evaluation = EvaluationReport(
        evaluated, lambda: build.make_eval_env(cfg, evaluated), replay, learner.world_model,
        tracker, cfg.eval_episodes,
    )  # fmt: skip
    watched = {"play/entropy_scale": learner.actor_loss.entropy_scale}
    if plays_elsewhere(cfg):
        watched["speed/policy_age"] = core.collector.policy_age
    options = OmegaConf.to_container(cfg.env, resolve=True)
    stats = RunStats(cfg.steps, agent_steps, cfg.minutes, cfg.prefill, repeat)
    progress = Progress(stats, title=tracker.folder.name)
    return Report(
        tracker, progress, evaluation, repeat,
        replay.__len__,
        write_model=CheckpointModel(evaluated, core.env, options) if _writes_models(cfg) else None,
        records_per_update=core.processes.size * cfg.batch_size * cfg.batch_length,
        watched=watched,
    )  # fmt: skip


def _description(cfg: DictConfig, learner: Learner) -> str:
    """Device, precision and size, in one line."""
    count = sum(p.numel() for p in learner.optimizer.parameters())
    precision = "float32" if learner.dtype is None else str(learner.dtype).removeprefix("torch.")
    count_threads = torch.get_num_threads()
    plural = "" if count_threads == 1 else "s"
    threads = f", {count_threads} thread{plural}" if learner.device.type == "cpu" else ""
    mode = {"False": "off", "True": "on"}.get(str(cfg.compile), str(cfg.compile))
    return (
        f"device: {learner.device}{threads}, {precision}, compile {mode}; "
        f"{count / 1e6:.2f} million parameters"
    )
