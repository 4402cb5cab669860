"""The training loop: act, store, learn, report, until the steps run out."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tensordict import TensorDictBase

from mario_dreamer import keys
from mario_dreamer.envs.base import EnvFailed
from mario_dreamer.replay import Replay
from mario_dreamer.training.core import Core
from mario_dreamer.training.distributed import ProcessLost
from mario_dreamer.training.evaluation import episode_ends
from mario_dreamer.training.finite import NonFiniteLoss
from mario_dreamer.training.interrupt import Interrupt
from mario_dreamer.training.learner import Learner
from mario_dreamer.training.report import Report
from mario_dreamer.training.schedule import EntropySchedule
from mario_dreamer.training.snapshot import Snapshot
from mario_dreamer.training.workers import WorkerCollector

log = logging.getLogger(__name__)


RAISED_BY_ALL = (EnvFailed, NonFiniteLoss, ProcessLost)  # what every process raises at the same place


@dataclass
class Run:
    """The numbers of a run, as configs/train.yaml explains them.

    Steps are agent steps of all environments together; `action_repeat` is frames per agent step.
    """

    steps: int
    action_repeat: int = 4
    prefill: int = 0
    prefill_random: bool = False
    pretrain: int = 0
    log_every: int = 1000
    eval_every: int = 10_000
    save_every: int = 10_000
    minutes: float | None = None
    entropy_solved: float | None = None


@dataclass
class Parts(Core):
    """The objects of a run, ready made."""

    report: Report
    snapshot: Snapshot


def train(parts: Parts, run: Run, agent_steps: int = 0) -> str:
    """Act, store, learn, report, until the steps run out.

    Paper: arXiv:2301.04104, Algorithm "DreamerV3".

    Args:
        parts: the objects; `parts.state.stopped` then says why training ended.

    Returns:
        "FINISHED" after all steps or minutes, "KILLED" after a signal or when stdout was closed;
        logged and saved either way.

    Raises:
        NonFiniteLoss: a loss term is not a number; the last good state is saved first.
        EnvFailed: an environment raised, or its reward is not a number; likewise.
        ProcessLost: another process of this training ended; likewise, as far as that goes.
    """
    state, report, learner = parts.state, parts.report, parts.learner
    processes, echo = parts.processes, 5.0 if parts.processes.size > 1 else 0.0
    if agent_steps >= run.steps and not state.pending:
        state.stopped = "steps"
        state.agent_steps = state.saved_at = agent_steps
        if state.evaluating and run.eval_every:
            _evaluate(parts)  # a kill cut the last evaluation off
            _save(parts)
        else:
            log.warning("all %d steps are played already; give more with steps=...", run.steps)
        return "FINISHED"
    state.begin(agent_steps, learner.updates > 0)
    state.learning = state.learning and not processes.any(not parts.replay.ready())
    parts.policy.uniform = run.prefill_random and not state.learning
    entropy = EntropySchedule(learner.actor_loss.entropy_scale, run.entropy_solved)
    batches = iter(parts.collector)
    metrics: TensorDictBase | None = None

    with (
        Interrupt(run.minutes, lambda: report.progress.closed, echo) as interrupt,
        _saved_when_it_fails(parts),
    ):
        if state.evaluating and run.eval_every:
            _evaluate(parts)  # a kill cut this evaluation off
        while not state.stopped:
            # A resume first makes the updates that were cut off.
            if not state.pending and _has_batch(parts, interrupt):
                act(parts, run, batches)
            entropy.follow(report.flag_rate)
            while state.pending and not processes.any(bool(interrupt.reason)):
                metrics = learn(parts.replay, learner)
                state.pending -= 1
                report.learned(metrics, state.agent_steps)

            over = state.agent_steps >= run.steps and not state.pending
            reason = next(filter(None, processes.exchange(interrupt.reason)), "")
            state.stopped = "steps" if over else reason
            logs, saves = state.due("log", run.log_every), state.due("save", run.save_every)
            evaluates = state.due("eval", run.eval_every) and state.learning
            if metrics is not None and (logs or saves or evaluates or state.stopped):
                learner.check(metrics)  # asks the device: no NaN is logged or saved
            if logs or state.stopped:
                report.log(state.agent_steps)
            # The time of process 0, which has logged by now: the others may save in its place.
            state.evaluating = processes.exchange(time.time())[0] if evaluates else None
            if saves or evaluates or state.stopped:
                _save(parts)
            if evaluates:
                _evaluate(parts)
                if state.stopped:
                    _save(parts)
    return "FINISHED" if state.stopped in ("steps", "minutes") else "KILLED"


@contextlib.contextmanager
def _saved_when_it_fails(parts: Parts) -> Iterator[None]:
    """Log and save what has been learned, then let the error go on, with what was saved in it."""
    try:
        yield
    except Exception as error:
        if parts.processes.size > 1 and not isinstance(error, RAISED_BY_ALL):
            raise  # in this process alone: the others cannot save with it
        with _training_goes_on("logging"):
            parts.report.log(parts.state.agent_steps)
        saved = _save(parts)
        note = "What was learned so far is saved" if saved else "The older checkpoints are there"
        run = parts.snapshot.checkpoints.folder.parent
        error.args = (f"{str(error).rstrip('.')}. {note}: go on with resume={run}",)
        raise


@contextlib.contextmanager
def _training_goes_on(what: str) -> Iterator[None]:
    """Log whatever fails inside in one line, and go no further."""
    try:
        yield
    except ProcessLost:
        raise
    except Exception as error:  # a broken chart or film is no reason to lose a training
        reason = " ".join(str(error).split())[:300]
        log.error("%s failed, training goes on: %s: %s", what, type(error).__name__, reason)


def _has_batch(parts: Parts, interrupt: Interrupt) -> bool:
    """Whether the collectors can play on at once; False where a reason to stop comes first."""
    collector = parts.collector
    if not isinstance(collector, WorkerCollector):
        return True
    while not (found := collector.has_batch()) and not interrupt.reason:
        pass
    return not parts.processes.any(not found)


def act(parts: Parts, run: Run, batches: Iterator[TensorDictBase]) -> None:
    """Act, store the transitions, and count the updates to make in `state.pending`.

    Args:
        batches: transitions [N, n], from the collector.

    Raises:
        EnvFailed: the environment raised, or its reward is not a number.
    """
    state, policy, processes = parts.state, parts.policy, parts.processes
    ended, new_steps, failure, problem = [], 0, None, ""
    try:
        transitions = next(batches)
        ended, new_steps = episode_ends(transitions), transitions.numel()
        parts.replay.extend(transitions)  # from here on, time is the paper's
    except Exception as error:
        reason = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        failure, problem = error, f"{type(error).__name__}: {reason}"
    notes = processes.exchange((ended, new_steps, problem, parts.replay.ready()))
    all_ended, all_steps, reasons, ready = zip(*notes, strict=True)
    for rank, reason in enumerate(reasons):
        if reason:
            where = f" of process {rank}" if processes.size > 1 else ""
            raise EnvFailed(
                f"the environment{where} failed after agent step {state.agent_steps:,}: {reason}"
            ) from failure
    agent_steps = state.agent_steps + sum(all_steps)
    parts.report.played(itertools.chain(*all_ended), agent_steps, sum(all_steps))
    state.agent_steps = agent_steps

    # Learn: `train_ratio` replayed records for each new step.
    pretrain = 0
    if not state.learning and agent_steps >= run.prefill and all(ready):
        state.learning, policy.uniform = True, False
        pretrain = run.pretrain
    if state.learning:
        state.pending = pretrain + parts.ratio.due(agent_steps, parts.report.flags > 0)


def learn(replay: Replay, learner: Learner) -> TensorDictBase:
    """Make one update from one batch of records; hand newer latents back to replay.

    Returns:
        the metrics, 0-dim tensors by name.
    """
    records = replay.sample()
    metrics = learner.update(records)
    posterior = metrics.pop("posterior")
    if replay.latents:
        replay.update_latents(
            records[keys.INDEX], posterior[keys.DETER], posterior[keys.STOCH], records[keys.STEP_ID]
        )
    return metrics


def _evaluate(parts: Parts) -> None:
    with _training_goes_on("evaluation"), parts.report.phase("evaluating"):
        parts.report.evaluate(parts.state.agent_steps)
    parts.processes.any(False)  # the others wait: a kill of process 0 cuts it off for them as well
    parts.state.evaluating = None


def _save(parts: Parts) -> bool:
    """Save; a disk that refuses does not stop the learning, the older checkpoints are there."""
    state, report = parts.state, parts.report
    path = None
    with _training_goes_on("saving"), report.phase("saving"):
        report.tracker.flush()  # what the checkpoint counts as logged must not be lost
        path = parts.snapshot.save(parts, state.agent_steps)
        state.saved_at = state.agent_steps
    if path is not None:
        with _training_goes_on("the model written with a checkpoint"):
            report.saved(path, state.agent_steps)
    return path is not None
