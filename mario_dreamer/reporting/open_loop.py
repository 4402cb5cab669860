"""Open-loop error: how well the world model predicts frames, by horizon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from mario_dreamer import keys
from mario_dreamer.envs.screens import to_rgb
from mario_dreamer.networks.model_input import to_model_input
from mario_dreamer.precision import autocast
from mario_dreamer.reporting.episodes import Networks, Watched


@dataclass
class Foresight:
    """Mean squared errors of frames in [0, 1] by horizon k = 1 .. H, and one example.

    Args:
        dreamed: of frames predicted k steps ahead along the real actions, open loop, [H].
        repeated: of the last frame repeated, the baseline to beat, [H].
        redrawn: of frames decoded from the posterior: nothing can be better, [H].
        windows: how many windows reach so far, [H].
        truth, dream: the longest window, [H + 1, 3, S, S] floats in [0, 1]; the first was seen.
    """

    dreamed: Tensor
    repeated: Tensor
    redrawn: Tensor
    windows: Tensor
    truth: Tensor
    dream: Tensor


def cut_windows(lengths: Sequence[int], horizon: int, count: int) -> list[tuple[int, int, int]]:
    """Choose windows for open-loop prediction, spread evenly over all that was played.

    Args:
        horizon: H, at least 1.
        count: number of windows, at most.

    Returns:
        (episode, first record, last record + 1); none is shorter than 2 or longer than H + 1.

    >>> cut_windows([5, 3], 3, 3)
    [(0, 0, 4), (0, 1, 5), (1, 0, 3)]
    """
    windows = []
    for episode, length in enumerate(lengths):
        # Whole windows alone; where the episode is too short for one, a single shorter one.
        for first in range(max(1, length - horizon) if length > 1 else 0):
            windows.append((episode, first, min(length, first + horizon + 1)))
    picks = torch.linspace(0, len(windows) - 1, min(count, len(windows))).round().long()
    return [windows[i] for i in picks.tolist()]


def mean_by_horizon(errors: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Average over the windows that reach each horizon.

    Args:
        errors: [B, H]; what lies beyond a window's length does not count.
        lengths: horizons that each window reaches, int64 [B].

    Returns:
        means [H], NaN where no window reaches; and how many do, [H].
    """
    there = torch.arange(errors.shape[1]) < lengths[:, None]  # [B, H]
    count = there.sum(0)
    return torch.where(there, errors, 0.0).sum(0) / count, count


def _window(seen: Watched, first: int, last: int, length: int) -> TensorDictBase:
    """Records [length], padded by repeating the last; with the state to start from."""
    index = torch.arange(first, first + length).clamp_max(last - 1)
    observed = [key for key in seen.records.keys() if keys.is_observation(key)]
    read = (*observed, keys.PREV_ACTION, keys.IS_FIRST)
    window = TensorDict({key: seen.records[key][index] for key in read}, [length])
    # The posterior at a record is where the RSSM starts from at the next one. The first record
    # of an episode needs none: is_first erases it.
    before = (index - 1).clamp_min(0)
    window[keys.PREV_DETER] = seen.states[keys.DETER][before]
    window[keys.PREV_STOCH] = seen.states[keys.STOCH][before]
    window["now_deter"] = seen.states[keys.DETER][index]
    window["now_stoch"] = seen.states[keys.STOCH][index]
    return window


@torch.no_grad()
def foresee(
    watched: Sequence[Watched], agent: Networks, horizon: int = 45, count: int = 24
) -> Foresight | None:
    """Predict frames in open loop from many moments and compare with the real ones.

    Args:
        watched: played episodes; envs without pixels give None.
        horizon: H; fewer when every episode is shorter.
        count: number of moments.
    """
    image = keys.first_image(agent.world_model.observation_keys)
    watched = [seen for seen in watched if len(seen.records) > 1]
    if not watched or image is None:
        return None
    horizon = min(horizon, max(len(seen.records) for seen in watched) - 1)
    cuts = cut_windows([len(seen.records) for seen in watched], horizon, count)
    records = torch.stack([_window(watched[e], a, b, horizon + 1) for e, a, b in cuts])
    world_model = agent.world_model
    decoder = world_model.decoders[image]
    on_device = records.to(agent.device)
    with autocast(agent.device, agent.dtype):
        dream = world_model.open_loop(on_device, 1)[keys.RECON, image]
        redrawn = decoder.head(on_device["now_deter"], on_device["now_stoch"])
    truth = to_model_input(records[image])  # [B, H + 1, 3, S, S]
    dream, redrawn = (x.float().cpu().clamp(0, 1) for x in (dream, redrawn))
    reach = torch.tensor([b - a - 1 for _, a, b in cuts])
    guesses = {"dreamed": dream, "redrawn": redrawn, "repeated": truth[:, :1].expand_as(truth)}
    means, windows = {}, reach
    for name, guess in guesses.items():
        error = (guess - truth)[:, 1:].square().flatten(2).mean(-1)  # [B, H]
        means[name], windows = mean_by_horizon(error, reach)
    longest = int(reach.argmax())
    return Foresight(
        **means, windows=windows, truth=to_rgb(truth[longest]), dream=to_rgb(dream[longest])
    )
