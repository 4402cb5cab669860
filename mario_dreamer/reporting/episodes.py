"""Episodes of an agent with its state and predictions at every frame; its use of the latent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from mario_dreamer import keys
from mario_dreamer.agent.distribution_module import DistributionModule
from mario_dreamer.agent.policy import Policy
from mario_dreamer.agent.world_model import WorldModel
from mario_dreamer.precision import autocast
from mario_dreamer.replay import to_records
from mario_dreamer.training.evaluation import Episode, play_episodes


class Networks(Protocol):
    """What predicts: a `LoadedAgent`, a `Learner`, or anything with these."""

    world_model: WorldModel
    critic: DistributionModule
    device: torch.device
    dtype: torch.dtype | None


@dataclass
class Watched:
    """One whole episode of T agent steps.

    Args:
        episode: its info, actions and button log.
        records: T + 1 records, as in replay; those on the CPU.
        states: the posterior at each of them, on the CPU: deter [T + 1, D], stoch, post_logits,
            and the means of the heads there: reward_mean, value_mean [T + 1, 1].
    """

    episode: Episode
    records: TensorDictBase
    states: TensorDictBase


def watch(
    policy: Policy, env: object, agent: Networks, episodes: int, max_steps: int | None = None
) -> list[Watched]:
    """Play with sampled actions; run world model and critic on each frame.

    Args:
        policy, env: see `play_episodes`.
        max_steps: see `play_episodes`.
    """
    observations = agent.world_model.observation_keys
    after = [*observations, keys.REWARD, "terminated", "truncated", "done"]
    # What the paper's records are made of.
    keep = [*observations, "is_init", keys.ACTION, *(("next", key) for key in after)]
    played = play_episodes(policy, env, episodes, max_steps=max_steps, keep=keep)
    return [_look(episode, agent) for episode in played]


@torch.no_grad()
def _look(episode: Episode, agent: Networks) -> Watched:
    assert episode.steps is not None, "watch: the episode was played without its transitions"
    records = to_records(episode.steps).exclude(keys.STREAM)
    with autocast(agent.device, agent.dtype):
        # One sequence from the first frame to the last: [T + 1] -> [1, T + 1]
        states = agent.world_model(records.unsqueeze(0).to(agent.device))
        for head in (agent.world_model.reward, agent.critic):
            out = head(states.select(keys.FEAT))
            states.update({f"{key}_mean": out[key] for key in head.out_keys})
    wanted = [keys.DETER, keys.STOCH, keys.POST_LOGITS, "reward_mean", "value_mean"]
    episode.steps = None  # the records hold it all
    return Watched(episode, records, states.select(*wanted)[0].cpu().float())


def usage(watched: Sequence[Watched], rssm: nn.Module) -> Tensor:
    """Average the posterior over all frames: which of the S x K classes are taken.

    Args:
        rssm: its `stoch_dist` makes the posterior of logits.

    Returns:
        [S, K], each row adds up to 1.
    """
    logits = torch.cat([seen.states[keys.POST_LOGITS] for seen in watched])  # [M, S, K]
    return rssm.stoch_dist(logits).probs.mean(0)


def live_classes(shares: Tensor) -> int:
    """Count the classes taken more than 1 % of the time, of [S, K] shares."""
    return int((shares > 0.01).sum())


def effective_classes(shares: Tensor) -> Tensor:
    """How many classes each categorical uses, [S]: exp(entropy of its shares); 1 means it is dead.

    >>> effective_classes(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])).tolist()
    [2.0, 1.0]
    """
    return torch.special.entr(shares).sum(-1).exp()
