"""mario-dreamer train: learn to play.

    mario-dreamer train experiment=laptop          Mario 1-1 on two CPU cores
    mario-dreamer train experiment=mario_1_1       Mario 1-1, the paper's networks, on a GPU
    mario-dreamer train experiment=debug           a toy env, about a minute
    mario-dreamer train resume=latest              go on where the newest run stopped
    mario-dreamer train runs/NAME                  go on with this one
    mario-dreamer train env.stage=1-2 init_from=runs/NAME    a new run from that one's weights
    mario-dreamer train size=size25m seed=1        change a choice, change a number
    mario-dreamer train -m seed=0,1,2              one run for each seed
    torchrun --standalone --nproc_per_node=4 -m mario_dreamer train ...    one run on four GPUs

A sweep that is started again skips the jobs that have finished. With mario_dreamer[sweep] jobs run
side by side (hydra/launcher=joblib hydra.launcher.n_jobs=4) or on a cluster (ray, submitit_slurm).
Behind a loss in the progress lines, ^ means risen, v fallen, = about as before.
Ctrl-C, SIGTERM or a terminal that is gone: a checkpoint is saved, the run ends KILLED. On CPU a
resumed run goes on bit for bit, in mid-episode. Exit codes: 0 all steps or minutes are done, 1 an
error, 128 + signal (130 Ctrl-C, 143 SIGTERM, 129 SIGHUP), 141 nobody reads the output any more.
resume=runs/NAME/checkpoints/step_000010000 goes on from that one: later checkpoints of the run are
moved to checkpoints/set_aside, and what was logged after it is logged again.
init_from starts at step 0 with another run's weights; init_parts says which, the sizes must match.
Every choice and number stands in configs/train.yaml.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mario_dreamer.commands import _command, _folder, _sweep
from mario_dreamer.commands._parts import describe_envs, make_core, make_report
from mario_dreamer.config import build, compose, limits
from mario_dreamer.config.contracts import make_part
from mario_dreamer.config.stored import resumed_config
from mario_dreamer.config.trusted import word_of_trust
from mario_dreamer.tracking.progress import print_line
from mario_dreamer.tracking.provenance import provenance
from mario_dreamer.tracking.tracker import NoTracker, Tracker
from mario_dreamer.tracking.trackers import with_files
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import CheckpointError, find_checkpoint, find_run
from mario_dreamer.training.core import Core
from mario_dreamer.training.distributed import Processes, ProcessLost, check_same, join
from mario_dreamer.training.loop import Parts, train
from mario_dreamer.training.snapshot import Saved, Snapshot


def _tracker(cfg: DictConfig, folder: Path, run_id: str | None, first: bool) -> Tracker:
    """The configured tracker, and always the plain files; none but in the first process."""
    if not first:
        return NoTracker(folder, folder.name)
    name = _sweep.job_name() or folder.name
    chosen = make_part("tracker", cfg.tracker, folder=folder, run_name=name, run_id=run_id)
    return with_files(chosen, folder)


def _warn_of_no_update(cfg: DictConfig, core: Core) -> None:
    """Print a warning when so few steps make no update."""
    batch, per_step = cfg.batch_size * cfg.batch_length, core.ratio.before_flag
    if (cfg.steps - max(cfg.prefill, batch)) * per_step + cfg.pretrain < 1:
        print_line(
            f"WARNING: steps={cfg.steps} make no update: learning begins after prefill="
            f"{cfg.prefill} steps and one batch of {batch} records, with train_ratio="
            f"{per_step * core.processes.size * batch:g} replayed records per step."
        )


def run_training(cfg: DictConfig, overrides: list[str] | None = None) -> dict[str, Any]:
    """Train one run from its configuration, from the start or from a checkpoint.

    Under torchrun all processes train one run; the first of them prints, logs and evaluates.

    Args:
        overrides: what was typed, applied to the stored configuration on a resume.

    Returns:
        `folder`, `status`, `stopped` (why it ended), `updates`, the last `metrics`, and whether
        this is the `first` process.
    """
    processes = join(str(cfg.device))
    try:
        with contextlib.nullcontext() if processes.first else _silence():
            return _train(cfg, overrides or [], processes)
    except ProcessLost:
        if processes.rank != processes.survivors()[0]:
            sys.exit(1)  # one line is enough
        raise
    finally:
        processes.close()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Print nothing but errors that end the process."""
    logging.disable(logging.ERROR)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _train(cfg: DictConfig, overrides: list[str], processes: Processes) -> dict[str, Any]:
    checkpoint, saved, source, agent_steps, run_id = None, None, None, 0, None
    runs_dir = Path(str(cfg.runs_dir))  # as typed, never as stored
    check_same(processes, "the configuration", OmegaConf.to_yaml(cfg, resolve=True))
    if cfg.resume is not None:
        checkpoint = processes.from_first(lambda: find_run(str(cfg.resume), runs_dir))
        own = ("resume=", "runs_dir=", "trust_config=")
        typed = [word for word in overrides if not word.startswith(own)]
        cfg, ignored = resumed_config(checkpoint, checkpoint.parents[1], typed, cfg.trust_config)
        if ignored:
            print(f"resume: the run keeps its own choices; ignored: {' '.join(ignored)}")
        saved = Saved.read(checkpoint, processes)
        run_id, agent_steps = saved.run_id, saved.agent_steps
    else:
        cfg, foreign = compose.own_env_options(cfg, overrides)
        if foreign:
            print(f"env: options of the recipe's own env are left out: {', '.join(foreign)}")
        if cfg.get("init_from") is not None:
            source = processes.from_first(lambda: find_checkpoint(str(cfg.init_from), str(runs_dir)))
    limits.check_numbers(cfg)
    with contextlib.ExitStack() as stack:
        folder = processes.from_first(lambda: _own_folder(cfg, runs_dir, checkpoint, stack))
        build.set_threads(cfg.threads, processes.local_size)
        build.seed_everything(cfg.seed + processes.seed_offset)
        config = OmegaConf.to_yaml(cfg, resolve=True)
        env_options, trust = describe_envs(cfg), word_of_trust(OmegaConf.create(config))
        core = make_core(cfg, folder, agent_steps, source, processes)
        _warn_of_no_update(cfg, core)
        run = build.make_run(cfg)
        stack.callback(core.collector.shutdown)
        if saved is not None:
            saved.restore(core, env_options)  # a checkpoint that does not fit is refused here
        tracker = stack.enter_context(_tracker(cfg, folder, run_id, processes.first))
        checkpoints = Checkpoints(folder / "checkpoints", cfg.keep_checkpoints)
        processes.shared_folder = checkpoints.folder
        if processes.first:
            _begin(cfg, folder, config, tracker)
            cut_off = core.state.evaluating if run.eval_every else None
            tracker.truncate_after(agent_steps, cut_off)  # logged again from here on
            if checkpoint is not None and checkpoints.folder == checkpoint.parent:
                for moved in checkpoints.go_on_from(checkpoint):
                    print(f"resume: {moved.name} is newer than {checkpoint.name}: moved to {moved}")
        run_id = processes.exchange(tracker.run_id)[0]
        report = make_report(cfg, core, tracker, agent_steps)
        snapshot = Snapshot(checkpoints, report, config, run_id, env_options)
        parts = Parts(**vars(core), report=report, snapshot=snapshot)
        try:
            if saved is not None:
                saved.restore_report(parts.report)
            print_line(f"run folder: {folder}  (agent step {agent_steps} of {run.steps})")
            if tracker.watch_hint is not None:
                print_line(f"watch: {tracker.watch_hint}")
            print_line(f"mario-dreamer view {folder}{trust} shows the agent; Ctrl-C saves and leaves")
            status = train(parts, run, agent_steps)
        finally:
            _command.too_late_to_stop()
            parts.report.progress.close()
        return _ended(parts, tracker, folder, status) | {"steps": run.steps, "trust": trust}


def _own_folder(
    cfg: DictConfig, runs: Path, checkpoint: Path | None, stack: contextlib.ExitStack
) -> Path:
    """The run's folder, which this process has for itself until the stack is closed."""
    folder = _folder.folder_of(cfg, runs, checkpoint)
    stack.enter_context(_folder.lock(folder))
    stack.callback(_folder.remove_if_unused, folder)
    return folder


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
        "first": parts.processes.first,
    }  # fmt: skip


def _begin(cfg: DictConfig, folder: Path, config: str, tracker: Tracker) -> None:
    """Log what the run is made from."""
    tracker.log_hparams(OmegaConf.to_container(cfg, resolve=True))
    tracker.log_tags({**provenance(), **_sweep.job_command()})
    (folder / "config.yaml").write_text(config, "utf-8")
    tracker.log_artifact(folder / "config.yaml", "config")


def main(cfg: DictConfig) -> float | None:
    """Run the command; return what a sweeper such as Optuna maximises, play/return_mean.

    Raises:
        SystemExit: with 128 + signal, when a signal or a closed stdout ended the training.
    """
    if _sweep.in_sweep() and cfg.resume is None:
        own, _ = compose.own_env_options(cfg, compose.given_overrides())
        config = OmegaConf.to_yaml(own, resolve=True)
        before = _sweep.finished_before(config, Path(str(cfg.runs_dir)))
        if before is not None:
            print_line(f"skipped: {before} finished with the same configuration")
            return _sweep.last_return(before)
    if _sweep.in_sweep():
        print_line(f"job of the sweep: {_sweep.job_name()}")
    result = run_training(cfg, compose.given_overrides())
    if not result["first"]:
        return None  # of several processes, the first one prints
    status, folder, stopped = result["status"], result["folder"], result["stopped"]
    if status == "FAILED":
        raise CheckpointError(
            f"{folder}: training ended ({stopped}), but its last checkpoint could not be saved; "
            "see above."
        )
    if not result["updates"]:
        print("WARNING: not one update was made; the agent has learned nothing.", file=sys.stderr)
    more = f" steps={2 * result['steps']}" if stopped == "steps" else ""
    with contextlib.suppress(BrokenPipeError):
        print_line(f"{status} ({stopped}): {folder}")
        print_line(f"go on with: mario-dreamer train resume={folder}{more}{result['trust']}")
    if status == "KILLED":
        sys.exit(_command.exit_code(stopped))  # ends a sweep: nobody wants the other jobs either
    return result["metrics"].get("play/return_mean")
