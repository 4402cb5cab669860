"""The training loop: act, remember, learn, report, until the steps run out."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from tensordict import TensorDictBase
from torchrl.envs import EnvBase

from mario_dreamer import keys
from mario_dreamer.agent.policy import Policy
from mario_dreamer.replay import Replay
from mario_dreamer.training.checkpoint_files import CheckpointError
from mario_dreamer.training.interrupt import Interrupt
from mario_dreamer.training.learner import Learner, NonFiniteLoss
from mario_dreamer.training.report import Report
from mario_dreamer.training.schedule import EntropySchedule, Turn, UpdateRatio
from mario_dreamer.training.snapshot import Snapshot

__all__ = ["Core", "Parts", "Run", "WorldFailed", "train"]

log = logging.getLogger(__name__)


class WorldFailed(RuntimeError):
    """An environment broke, so there is nothing to learn from any more."""


@dataclass
class Run:
    """The numbers of a run; steps are agent steps, of all environments together.

    Args:
        steps: how long to train.
        action_repeat: emulator frames per agent step, to count frames.
        prefill: steps played before learning begins; at least one batch is waited for anyway.
        prefill_random: draw actions uniformly during the prefill.
        pretrain: updates made at once when the prefill is complete.
        log_every, eval_every, save_every: intervals; 0 means never.
        minutes: stop after so much wall-clock time; None for no limit.
        entropy_solved: entropy scale of the actor once every recent episode reaches the flag; in
            between it falls geometrically with their share. None keeps it constant.
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
class Core:
    """What plays and learns, without those who are told about it.

    Args:
        collector: yields transitions [N, n], played by `policy`.
        env: the environment that the collector steps, for its state.
        policy, replay, learner, ratio: the agent at work.
        turn: where the loop stands; a resume puts it back.
    """

    collector: Iterable[TensorDictBase]
    env: EnvBase
    policy: Policy
    replay: Replay
    learner: Learner
    ratio: UpdateRatio
    turn: Turn = field(default_factory=Turn, kw_only=True)


@dataclass
class Parts(Core):
    """The objects of a run, ready made.

    Args:
        report: tells the trackers and the screen.
        snapshot: saves and restores all of it.
    """

    report: Report
    snapshot: Snapshot


def train(parts: Parts, run: Run, agent_steps: int = 0) -> str:
    """Act, remember, learn, report, until the steps run out.

    Paper: arXiv:2301.04104, Algorithm "DreamerV3".

    Args:
        parts: the objects.
        run: the numbers.
        agent_steps: steps played before a resume.

    Returns:
        "FINISHED", or "KILLED" when a signal or the time limit ended it; saved either way.

    Raises:
        NonFiniteLoss: when a loss term is not a number; the last good state is saved first.
        WorldFailed: when an environment raises, or pays what is not a number; likewise.
    """
    report, turn = parts.report, parts.turn
    began = time.monotonic()
    if agent_steps >= run.steps and not turn.pending:
        log.warning("all %d steps are played already; give more with steps=...", run.steps)
        return "FINISHED"
    turn.last = dict.fromkeys(("log", "eval", "save"), agent_steps) | turn.last
    turn.learning = turn.learning or parts.learner.updates > 0
    parts.policy.uniform = run.prefill_random and not turn.learning
    batches = iter(parts.collector)
    entropy = EntropySchedule(parts.learner.actor_loss.entropy_scale, run.entropy_solved)
    metrics: TensorDictBase | None = None

    with Interrupt() as interrupt:
        while True:
            if not turn.pending:  # a resume first makes the updates that an interruption cut off
                try:
                    agent_steps = act(parts, run, next(batches), agent_steps)
                except Exception as error:
                    raise _failed(parts, agent_steps, error) from error

            entropy.follow(report.flag_rate)
            try:
                while turn.pending:
                    metrics = learn(parts.replay, parts.learner)
                    turn.pending -= 1
                    report.learned(metrics, agent_steps)
                    if interrupt.requested or _late(began, run.minutes):
                        break
            except NonFiniteLoss:
                _save(parts, agent_steps)
                raise
            if turn.pending:
                _save(parts, agent_steps)
                return "KILLED"

            # Report, and save what has been reported.
            out_of_time = _late(began, run.minutes)
            over = agent_steps >= run.steps or interrupt.requested or out_of_time
            if turn.due("log", run.log_every, agent_steps) or over:
                _still_finite(parts.learner, metrics)
                report.log(agent_steps)
            if turn.due("eval", run.eval_every, agent_steps) and turn.learning:
                report.evaluate(agent_steps)
            if turn.due("save", run.save_every, agent_steps) or over:
                _still_finite(parts.learner, metrics)
                _save(parts, agent_steps)
            if over:
                return "FINISHED" if agent_steps >= run.steps else "KILLED"


def _late(began: float, minutes: float | None) -> bool:
    return bool(minutes) and time.monotonic() - began > minutes * 60


def _failed(parts: Parts, agent_steps: int, error: Exception) -> WorldFailed:
    """Save what has been learned, as far as that goes; say what happened."""
    try:
        _save(parts, agent_steps)
        saved = "What was learned so far is saved"
    except Exception as second:  # a world that broke may not know where it stands either
        saved = f"It could not be saved ({second}), the older checkpoints are there"
    reason = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return WorldFailed(
        f"the environment failed after agent step {agent_steps:,}: {type(error).__name__}: "
        f"{reason}. {saved}: go on with resume=..."
    )


def act(parts: Parts, run: Run, transitions: TensorDictBase, agent_steps: int) -> int:
    """Take in what the worlds have played; return the agent steps so far.

    Args:
        parts: the objects; `turn.pending` then holds the updates to make.
        run: the numbers.
        transitions: [N, n], from the collector.
        agent_steps: before them.
    """
    turn, policy = parts.turn, parts.policy
    # Act. The collector has played; from here on, time is the paper's.
    agent_steps += transitions.numel()
    parts.report.played(transitions, agent_steps)

    # Remember.
    parts.replay.extend(transitions)

    # Learn: `train_ratio` replayed records for each new step.
    if not turn.learning and agent_steps >= run.prefill and parts.replay.ready():
        turn.learning, policy.uniform = True, False
        turn.pending = run.pretrain + parts.ratio.due(agent_steps)
    elif turn.learning:
        turn.pending = parts.ratio.due(agent_steps)
    return agent_steps


def learn(replay: Replay, learner: Learner) -> TensorDictBase:
    """Make one update from one batch of records; hand newer latents back to replay.

    Args:
        replay: where records come from.
        learner: what learns from them.

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


def _still_finite(learner: Learner, metrics: TensorDictBase | None) -> None:
    """Ask the device, which `Learner.update` does not do on a GPU: no NaN is told or saved."""
    if metrics is not None:
        learner.check(metrics)


def _save(parts: Parts, agent_steps: int) -> None:
    """Save; a disk that refuses does not stop the learning, the older checkpoints are there."""
    parts.report.flush()
    try:
        parts.report.saved(parts.snapshot.save(parts, agent_steps), agent_steps)
    except CheckpointError as error:
        log.error("%s", error)
