"""mario-dreamer train: learn to play.

    mario-dreamer train experiment=laptop          Mario 1-1 on two CPU cores
    mario-dreamer train experiment=mario_1_1       Mario 1-1, Nature settings, on a GPU
    mario-dreamer train experiment=debug           a toy world, under a minute
    mario-dreamer train resume=latest              go on where the newest run stopped
    mario-dreamer train runs/NAME                  go on with this one
    mario-dreamer train env.stage=1-2 init_from=runs/NAME    a new run from that one's weights
    mario-dreamer train size=size25m seed=1        change a choice, change a number
    mario-dreamer train -m seed=0,1,2              one run for each seed

Ctrl-C saves a checkpoint and leaves. On CPU a resumed run goes on bit for bit, in mid-episode.
resume=runs/NAME/checkpoints/step_000010000 goes on from that one: later checkpoints of the run are
moved to checkpoints/set_aside, and what was told after it is told anew.
init_from starts at step 0 with another run's weights; init_parts says which, the sizes must match.
Every choice and number stands in configs/train.yaml.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from mario_dreamer.agent.policy import Policy
from mario_dreamer.commands import _command, _sweep
from mario_dreamer.config import build, compose, limits
from mario_dreamer.config.load_agent import find_checkpoint
from mario_dreamer.config.memory import check_memory
from mario_dreamer.config.stored import resumed_config
from mario_dreamer.envs.torchrl import describe_observations
from mario_dreamer.exporting.checkpoint_model import CheckpointModel
from mario_dreamer.tracking.progress import Progress, print_line
from mario_dreamer.tracking.provenance import provenance
from mario_dreamer.tracking.tracker import Tracker
from mario_dreamer.tracking.trackers import with_files
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import CheckpointError, find_run
from mario_dreamer.training.init_from import init_from
from mario_dreamer.training.learner import Learner
from mario_dreamer.training.loop import Core, Parts, train
from mario_dreamer.training.pictures import EvaluationReport
from mario_dreamer.training.report import Report
from mario_dreamer.training.snapshot import Saved, Snapshot

__all__ = ["main", "run_training"]


def _run_folder(cfg: DictConfig, runs: Path, checkpoint: Path | None) -> Path:
    """The folder of the run that goes on, or a new one that nobody else has."""
    if checkpoint is not None and checkpoint.parent.name == "checkpoints":
        return checkpoint.parents[1]
    if cfg.name is not None:
        (runs / str(cfg.name)).mkdir(parents=True, exist_ok=True)
        return runs / str(cfg.name)
    name = f"{cfg.get('experiment_name') or 'run'}-{time.strftime('%Y%m%d-%H%M%S')}"
    for folder in (runs / (name if n == 1 else f"{name}-{n}") for n in itertools.count(1)):
        with contextlib.suppress(FileExistsError):  # of a run that began in the same second
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("unreachable")


def _tracker(cfg: DictConfig, folder: Path, run_id: str | None) -> Tracker:
    """The configured tracker, and always the plain files in the run's folder."""
    name = _sweep.job_name() or folder.name
    chosen = build.instantiate(cfg.tracker, folder=folder, run_name=name, run_id=run_id)
    return with_files(chosen, folder)


def _describe_worlds(cfg: DictConfig) -> str:
    """The options that decide what the worlds do; a resume with others cannot go on in them."""
    options = OmegaConf.to_container(cfg.env, resolve=True)
    return OmegaConf.to_yaml({key: value for key, value in options.items() if key != "threads"})


def _hands_over(cfg: DictConfig) -> bool:
    """Whether each checkpoint gets an MLflow model beside it: asked for, or tracked by MLflow."""
    wanted = cfg.get("save_model", "auto")
    by_mlflow = str(cfg.tracker.get("_target_", "")).endswith("MLflowTracker")
    return by_mlflow if wanted == "auto" else bool(wanted)


def make_core(
    cfg: DictConfig, folder: Path, agent_steps: int = 0, source: Path | None = None
) -> Core:
    """Build what plays and learns; no file is written and nobody is told.

    Args:
        cfg: the run's configuration.
        folder: the run's folder.
        agent_steps: steps played before a resume.
        source: checkpoint whose weights the run starts from.
    """
    # The worlds begin anew on a resume: with the old seed their chances would repeat.
    env = build.make_env(cfg, cfg.collector.num_envs, cfg.seed + agent_steps)
    print_line(describe_observations(env))
    print_line(check_memory(cfg, env, folder))
    agent = build.make_agent(cfg, env)
    learner = build.make_learner(cfg, agent)
    if source is not None:
        taken = [cfg.init_parts] if isinstance(cfg.init_parts, str) else cfg.init_parts or []
        init_from(learner.modules, source, list(taken))
        print(f"starting from {', '.join(taken)} of {source}")
    print_line(_description(cfg, learner))
    policy, env = build.make_policy(agent, learner, env)
    return Core(
        collector=build.make_collector(cfg, env, policy, learner.device),
        env=env,
        policy=policy,
        replay=build.make_replay(cfg, learner.device, str(folder / "replay")),
        learner=learner,
        ratio=build.make_run(cfg)[1],
    )


def make_report(cfg: DictConfig, core: Core, tracker: Tracker, agent_steps: int = 0) -> Report:
    """Build what logs the run: numbers, evaluation, progress, models of the checkpoints.

    Args:
        cfg: the run's configuration.
        core: what plays and learns.
        tracker: who is told.
        agent_steps: steps played before a resume.
    """
    learner, replay, average = core.learner, core.replay, core.learner.average
    judged = core.policy
    if average is not None:
        judged = Policy(average["world_model"], average["actor"], learner.dtype)
    evaluation = EvaluationReport(
        judged, lambda: build.make_eval_env(cfg, judged), replay, learner.world_model, tracker,
        cfg.eval_episodes,
    )  # fmt: skip
    options, repeat = OmegaConf.to_container(cfg.env, resolve=True), cfg.env.get("action_repeat", 1)
    progress = Progress(
        cfg.steps, agent_steps, title=tracker.folder.name, minutes=cfg.minutes,
        prefill=cfg.prefill, action_repeat=repeat,
    )  # fmt: skip
    return Report(
        tracker, progress, evaluation, repeat,
        replay.__len__,
        write_model=CheckpointModel(judged, core.env, options) if _hands_over(cfg) else None,
        records_per_update=cfg.batch_size * cfg.batch_length,
        watched={"play/entropy_scale": learner.actor_loss.entropy_scale},
    )  # fmt: skip


def _description(cfg: DictConfig, learner: Learner) -> str:
    """Device, precision and size, in one line."""
    count = sum(p.numel() for p in learner.optimizer.parameters())
    precision = "float32" if learner.dtype is None else str(learner.dtype).removeprefix("torch.")
    threads = f", {torch.get_num_threads()} threads" if learner.device.type == "cpu" else ""
    mode = {"False": "off", "True": "on"}.get(str(cfg.compile), str(cfg.compile))
    return (
        f"device: {learner.device}{threads}, {precision}, compile {mode}; "
        f"{count / 1e6:.2f} million parameters"
    )


def _warn_of_no_update(cfg: DictConfig) -> None:
    """Print a warning when so few steps make no update."""
    batch = cfg.batch_size * cfg.batch_length
    updates = (cfg.steps - max(cfg.prefill, batch)) * cfg.train_ratio / batch + cfg.pretrain
    if updates < 1:
        print_line(
            f"WARNING: steps={cfg.steps} make no update: learning begins after prefill="
            f"{cfg.prefill} steps and one batch of {batch} records, with train_ratio="
            f"{cfg.train_ratio} replayed records per step."
        )


def run_training(cfg: DictConfig, overrides: list[str] | None = None) -> dict[str, Any]:
    """Train one run from its configuration, from the start or from a checkpoint.

    Args:
        cfg: the configuration, as composed.
        overrides: what was typed, applied to the stored configuration on a resume.

    Returns:
        `folder`, `status`, `stopped` (why it ended), `updates`, and the last `metrics`.
    """
    checkpoint, saved, agent_steps, run_id = None, None, 0, None
    runs_dir = Path(str(cfg.runs_dir))  # as typed, never as stored
    if cfg.resume is not None:
        checkpoint = find_run(str(cfg.resume), cfg.runs_dir)
        own = ("resume=", "runs_dir=", "trust_config=")
        typed = [word for word in overrides or [] if not word.startswith(own)]
        cfg, ignored = resumed_config(checkpoint, checkpoint.parents[1], typed, cfg.trust_config)
        if ignored:
            print(f"resume: the run keeps its own choices; ignored: {' '.join(ignored)}")
        saved = Saved.read(checkpoint)
        run_id, agent_steps = saved.run_id, saved.agent_steps
    else:
        cfg, foreign = compose.own_env_options(cfg, overrides or [])
        if foreign:
            print(f"env: options of the recipe's own env are left out: {', '.join(foreign)}")
    source = None
    if checkpoint is None and cfg.get("init_from") is not None:
        source = find_checkpoint(str(cfg.init_from), str(cfg.runs_dir))
    limits.check_numbers(cfg)
    folder = _run_folder(cfg, runs_dir, checkpoint)
    if checkpoint is None and any(folder.glob("checkpoints/step_*")):
        raise ValueError(
            f"{folder} holds a run already. Go on with it by resume={folder}, or give this run "
            "another name=..."
        )
    _warn_of_no_update(cfg)
    build.set_threads(cfg.threads)
    build.seed_everything(cfg.seed)
    config = OmegaConf.to_yaml(cfg, resolve=True)
    worlds = _describe_worlds(cfg)
    with _command.lock(folder), contextlib.ExitStack() as stack:
        core, run = make_core(cfg, folder, agent_steps, source), build.make_run(cfg)[0]
        stack.callback(core.collector.shutdown)
        if saved is not None:
            saved.restore(core, worlds)  # a checkpoint that does not fit is refused here
        tracker = stack.enter_context(_tracker(cfg, folder, run_id))
        tracker.log_hparams(OmegaConf.to_container(cfg, resolve=True))
        tracker.log_tags(provenance())
        (folder / "config.yaml").write_text(config)
        tracker.log_artifact(folder / "config.yaml", "config")
        tracker.truncate_after(agent_steps)  # logged again from here on, after a kill
        checkpoints = Checkpoints(folder / "checkpoints", cfg.keep_checkpoints)
        if checkpoint is not None and checkpoints.folder == checkpoint.parent:
            for moved in checkpoints.go_on_from(checkpoint):
                print(f"resume: {moved.name} is newer than {checkpoint.name}: moved to {moved}")
        parts = Parts(
            **vars(core),
            report=make_report(cfg, core, tracker, agent_steps),
            snapshot=Snapshot(checkpoints, config, tracker.run_id, worlds),
        )
        try:
            if saved is not None:
                saved.restore_report(parts.report)
                saved.restore_random_states()
            print_line(f"run folder: {folder}  (agent step {agent_steps} of {run.steps})")
            if tracker.watch_hint is not None:
                print_line(f"watch: {tracker.watch_hint}")
            print_line(f"mario-dreamer view {folder} shows the agent; Ctrl-C saves and leaves")
            status = train(parts, run, agent_steps)
        finally:
            parts.report.close()
        return _ended(parts, tracker, folder, status)


def _ended(parts: Parts, tracker: Tracker, folder: Path, status: str) -> dict[str, Any]:
    """Log how a run ended; without its last checkpoint it has failed."""
    state = parts.state
    if state.saved_at != state.agent_steps:
        status = "FAILED"
    tracker.log_tags({"stopped": state.stopped, "resume": f"train resume={folder}"})
    tracker.close(status)
    if tracker.watch_hint is not None:
        print_line(f"results: {tracker.watch_hint}")
    return {
        "folder": str(folder), "status": status, "stopped": state.stopped,
        "updates": parts.learner.updates, "metrics": parts.report.last,
    }  # fmt: skip


_sweep.announce_sweep()  # here, before Hydra hands the jobs to other processes


@_command.command("train")
def main(cfg: DictConfig) -> None:
    """Run the command; see the top of this file."""
    result = run_training(cfg, compose.given_overrides())
    status, folder, stopped = result["status"], result["folder"], result["stopped"]
    if status == "FAILED":
        raise CheckpointError(
            f"{folder}: training ended ({stopped}), but its last checkpoint could not be saved; "
            "see above."
        )
    if not result["updates"]:
        print("WARNING: not one update was made; the agent has learned nothing.", file=sys.stderr)
    more = f" steps={2 * int(cfg.steps)}" if stopped == "steps" else ""
    with contextlib.suppress(BrokenPipeError):
        print_line(f"{status} ({stopped}): {folder}")
        print_line(f"go on with: mario-dreamer train resume={folder}{more}")
    if status == "KILLED" and _command.in_sweep():
        sys.exit(130)  # the other jobs are not wanted either


if __name__ == "__main__":
    main()
