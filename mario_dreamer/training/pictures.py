"""Report of an evaluation: returns, a film, and the open-loop prediction."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase

from mario_dreamer import keys
from mario_dreamer.agent.policy import Policy
from mario_dreamer.agent.world_model import WorldModel
from mario_dreamer.envs.screens import to_rgb
from mario_dreamer.networks.model_input import to_model_input
from mario_dreamer.replay import Replay
from mario_dreamer.tracking.open_loop_images import image_strip, open_loop_video
from mario_dreamer.tracking.tracker import Tracker
from mario_dreamer.training.evaluation import Episode, play_episodes, summarise
from mario_dreamer.training.filming import NO_PICTURE, film_first
from mario_dreamer.training.report import episode_metrics, stage_flag_rates

log = logging.getLogger(__name__)

MAX_STEPS = 27_000  # of an evaluation's episode, for an env that has no limit of its own


def open_loop(world_model: WorldModel, replay: Replay, rows: int = 4) -> tuple[Tensor, Tensor, int]:
    """Let the world model watch half of a window of frames, then predict the rest open loop.

    Args:
        replay: where the records come from; their draw does not disturb the learner's.

    Returns:
        truth and prediction [rows, T, 3, H, W] in [0, 1], and the number of frames seen.
    """
    device = next(world_model.parameters()).device
    records = unbroken(replay.peek(4 * rows), rows).to(device)
    seen = records.shape[1] // 2
    predicted = world_model.open_loop(records, seen)
    image = keys.first_image(world_model.observation_keys)
    truth = to_rgb(to_model_input(records[image]))
    return truth, to_rgb(predicted[keys.RECON, image]).clamp(0, 1), seen


def unbroken(windows: TensorDictBase, count: int) -> TensorDictBase:
    """Choose the windows with the fewest new episodes inside: those cannot be predicted.

    Args:
        windows: records [M, T].
        count: how many to choose, at most M.
    """
    breaks = windows[keys.IS_FIRST][:, 1:].flatten(1).sum(-1)  # [M]
    return windows[torch.argsort(breaks, stable=True)[:count]]


def eval_metrics(episodes: list[Episode], group: str) -> dict[str, float]:
    """Summarise evaluation episodes under the names of the metric table."""
    stages = stage_flag_rates((episode.stats for episode in episodes), group)
    return episode_metrics(summarise(episodes), group) | stages


@dataclass
class EvaluationReport:
    """Play evaluation episodes, film the first one, draw what the world model predicts.

    Args:
        policy: plays, with sampled and then with the most likely actions.
        make_env: builds the envs; called once, when first needed.
        replay, world_model: for the open-loop pictures.
        episodes: number of episodes of each kind; 0 only draws the pictures.
    """

    policy: Policy
    make_env: Callable[[], EnvBase]
    replay: Replay
    world_model: WorldModel
    tracker: Tracker
    episodes: int = 4
    _env: EnvBase | None = field(default=None, init=False)
    _has_warned: bool = field(default=False, init=False)

    def __call__(self, agent_steps: int) -> dict[str, float]:
        """Evaluate now; return metrics. The run's random states are as they were afterwards.

        The envs' seed is drawn from the run's random state, not from evaluations before,
        so a resumed run evaluates as the unbroken one would have.
        """
        began = time.monotonic()
        with torch.random.fork_rng():
            sampled, greedy = self._play(), self._play(greedy=True)
            metrics = self._look_ahead(agent_steps)
        if sampled:
            metrics |= eval_metrics(sampled, "eval/sampled") | eval_metrics(greedy, "eval/greedy")
            frames = sampled[0].frames
            if frames.ndim == 4:
                self.tracker.log_video("eval/episode", frames, agent_steps, fps=15)
            elif not self._has_warned:
                log.warning("evaluation is not filmed: %s", NO_PICTURE)
                self._has_warned = True
        metrics["eval/seconds"] = time.monotonic() - began
        return metrics

    def _play(self, greedy: bool = False) -> list[Episode]:
        if not self.episodes:
            return []
        if self._env is None:
            self._env = self.make_env()
        self._env.set_seed(int(torch.randint(2**31, ())))
        film = None if greedy else film_first
        found = play_episodes(self.policy, self._env, self.episodes, greedy, film, MAX_STEPS)
        if missing := self.episodes - len(found):
            log.warning(
                "evaluation: %d of %d episodes did not end within %d agent steps and do not count",
                missing, self.episodes, MAX_STEPS,
            )  # fmt: skip
        return found

    def _look_ahead(self, agent_steps: int) -> dict[str, float]:
        image = keys.first_image(self.world_model.observation_keys)
        if image is None:
            return {}
        truth, prediction, seen = open_loop(self.world_model, self.replay)
        video = open_loop_video(truth, prediction, seen)
        self.tracker.log_video("dream/open_loop", video, agent_steps, fps=8)
        every = max(1, truth.shape[1] // 12)
        strip = image_strip(truth[0], prediction[0], seen, every=every)
        self.tracker.log_image("dream/strip", strip, agent_steps)
        played = self.replay.newest(stream=0, count=300)
        self.tracker.log_video("play/episode", to_rgb(played[image]).cpu(), agent_steps, fps=15)
        error = (prediction[:, seen:] - truth[:, seen:]).square().mean()
        return {"eval/open_loop_error": float(error)}
