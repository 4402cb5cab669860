"""Evaluation: play whole episodes and summarise their returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.data import MultiOneHot, OneHot, TensorSpec
from torchrl.envs import EnvBase, ExplorationType, set_exploration_type, step_mdp

from mario_dreamer import keys
from mario_dreamer.envs.base import env_call
from mario_dreamer.envs.torchrl import innermost

# What the last transition of an episode says about the whole of it, where the env reports it.
STATS = ("x_pos", "x_max", "flag", "time", "score", "coins", "life", "world", "stage")


@dataclass
class Episode:
    """One finished episode.

    Args:
        stats: `return`, `length` (agent steps), `terminated`, and what the env reports at
            the end (x_max, flag, ...).
        actions: in order; the index of each where the env takes one-hot actions, else its numbers.
        frames: what was seen, uint8 [T, 3, H, W]; empty unless asked for.
        buttons: those really pressed, a byte per raw frame, no-ops and sticky actions
            included; empty where the env records none.
        steps: transitions [T], with the keys asked for; None unless asked for.
        start: a hash of all that was known before the first step; equal starts have equal ones.
    """

    stats: dict[str, float]
    actions: list[Any] = field(default_factory=list)
    frames: Tensor = field(default_factory=lambda: torch.empty(0))
    buttons: bytes = b""
    steps: TensorDictBase | None = None
    start: int = 0


def height_of(info: Mapping[str, Any]) -> float:
    """Return how high Mario is above the lower edge of the screen, in pixels; 0 in a pit.

    Args:
        info: of the emulator; without a height it is 0.
    """
    # Below the screen the console counts from the top again.
    return 0.0 if info.get("y_viewport", 1) > 1 else float(info.get("y_pos", 0))


@dataclass
class _Playing:
    """What is kept of an episode while it is played."""

    start: int = 0
    actions: list[Any] = field(default_factory=list)
    frames: list[Tensor] = field(default_factory=list)
    steps: list[TensorDictBase] = field(default_factory=list)

    def close(self, played: TensorDictBase, env: EnvBase, index: int) -> Episode:
        """Return the episode; `played` [N] is its last step, before the env is reset."""
        stats = episode_ends(played[index : index + 1].unsqueeze(1))[0]
        buttons = b""
        if games := vars(innermost(env)).get("games"):  # a ParallelEnv asked for it would crash
            game = games[index]
            buttons, stats["y_pos"] = bytes(game.pressed), height_of(game.info)
        frames = torch.stack(self.frames) if self.frames else torch.empty(0)
        steps = torch.stack(self.steps) if self.steps else None
        return Episode(stats, self.actions, frames, buttons, steps, self.start)


def episode_ends(transitions: TensorDictBase) -> list[dict[str, float]]:
    """Return the statistics of every episode that ended in these transitions, in order of time.

    Args:
        transitions: [N, n], as the collector yields them.
    """
    after = transitions["next"]
    ended = after["done"].squeeze(-1).transpose(0, 1)  # [N, n] -> [n, N]: time first
    ends = after.transpose(0, 1)[ended]
    names = {"return": "episode_reward", "length": "step_count", "terminated": "terminated"}
    names |= {name: name for name in STATS if name in after and after[name].shape == after["done"].shape}
    reported = after.get(keys.STATS, {})
    names |= {f"{keys.STATS}/{name}": (keys.STATS, name) for name in reported.keys()}
    columns = [ends[key].flatten().tolist() for key in names.values()]
    return [dict(zip(names, map(float, row), strict=True)) for row in zip(*columns, strict=True)]


def play_episodes(
    policy: TensorDictModuleBase,
    env: EnvBase,
    episodes: int,
    greedy: bool = False,
    film: Callable[[EnvBase, TensorDictBase], Tensor | None] | None = None,
    max_steps: int | None = None,
    keep: Sequence[NestedKey] = (),
) -> list[Episode]:
    """Play whole episodes, none preferred for being short.

    Each of the N envs plays the same number of episodes, rounded up, and the first
    `episodes` of that fixed grid are returned.

    Args:
        policy: writes `action` and its own state.
        env: [N] envs that carry the policy's state.
        episodes: number of episodes, at least 1.
        greedy: take the likeliest action; otherwise sample.
        film: called with the env and its state before each step; returns the pictures of the
            first n <= N envs, [n, 3, H, W] uint8, or None; the others' episodes have no frames.
        max_steps: agent steps for each of the episodes that an env plays; give up on what is not
            finished when they are used up. Such episodes are missing in the result. (To count
            them, let the env truncate them.)
        keep: keys of the transitions to keep in `Episode.steps`; missing ones are left out.

    Returns:
        the episodes, env by env.

    Raises:
        ValueError: when `episodes` is below 1.
        EnvFailed: the env raised.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}.")
    num_envs = env.batch_size[0]
    quota = math.ceil(episodes / num_envs)
    done: list[list[Episode]] = [[] for _ in range(num_envs)]
    playing = [_Playing() for _ in range(num_envs)]
    kind = ExplorationType.DETERMINISTIC if greedy else ExplorationType.RANDOM
    steps, most = 0, None if max_steps is None else max_steps * quota
    with torch.no_grad(), set_exploration_type(kind):
        state = env_call(env.reset)
        while steps != most and any(len(finished) < quota for finished in done):
            pictures = film(env, state) if film is not None else None
            for index, episode in enumerate(playing):
                if not episode.actions:
                    episode.start = _hash(state[index])
            # Stepped and reset in two calls: in between, an ended game still shows its end.
            played = env_call(env.step, policy(state))
            kept = played.select(*keep, strict=False).clone() if keep else None
            action = _as_list(played[keys.ACTION], env.action_spec)
            ends = played["next", "done"].flatten().tolist()
            for index in range(num_envs):
                if len(done[index]) == quota:
                    continue
                playing[index].actions.append(action[index])
                if pictures is not None and index < len(pictures):
                    playing[index].frames.append(pictures[index].clone())
                if kept is not None:
                    playing[index].steps.append(kept[index])
                if ends[index]:
                    done[index].append(playing[index].close(played, env, index))
                    playing[index] = _Playing()
            state = env_call(env.maybe_reset, step_mdp(played))
            steps += 1
    return [episode for finished in done for episode in finished][:episodes]


def _hash(state: TensorDictBase) -> int:
    return hash(tuple(value.cpu().numpy().tobytes() for value in state.values(True, True)))


def _as_list(action: Tensor, spec: TensorSpec) -> list[int] | list[list[float]]:
    """Actions [N, A] by their index where the spec is of one-hots, else as their numbers."""
    is_one_hot = isinstance(spec, OneHot) and not isinstance(spec, MultiOneHot)
    return (action.float().argmax(-1) if is_one_hot else action).tolist()


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the Wilson score interval, 95 %, of a success rate, both ends in [0, 1].

    Args:
        successes: in [0, trials].
        trials: at least 0; without any, nothing is known: (0, 1).
    """
    if trials == 0:
        return 0.0, 1.0
    z = 1.96  # normal quantile
    share, square = successes / trials, z * z
    centre = share + square / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    scale = 1 + square / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def summarise(episodes: list[Episode]) -> dict[str, float]:
    """Return means over episodes: return, length, and x_max, flag rate where the env reports them.

    Args:
        episodes: any number; none gives an empty dict.
    """
    if not episodes:
        return {}
    summary: dict[str, float] = {"episodes": float(len(episodes))}
    for name in episodes[0].stats.keys() - {"y_pos"}:
        values = [episode.stats[name] for episode in episodes]
        summary[name] = sum(values) / len(values)
    returns = torch.tensor([episode.stats["return"] for episode in episodes])
    summary["return_std"] = float(returns.std(correction=0))
    if "flag" in summary:
        flags = round(summary.pop("flag") * len(episodes))
        low, high = wilson_interval(flags, len(episodes))
        summary |= {"flag_rate": flags / len(episodes), "flag_low": low, "flag_high": high}
    if "x_max" in summary:
        summary["x_max_best"] = max(episode.stats["x_max"] for episode in episodes)
    return summary
