"""Atari games with the preprocessing of the 100k benchmark."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
from gymnasium.wrappers import MaxAndSkipObservation
from torchrl.envs import EnvBase

from mario_dreamer.checks import require_package
from mario_dreamer.envs.base import check_at_least_one
from mario_dreamer.envs.gymnasium import batch_of, plain_env
from mario_dreamer.envs.torchrl import with_agent_interface


class RandomNoops(gymnasium.Wrapper):
    """Begin an episode with up to `most` frames of action 0, a random number of them.

    Args:
        env: whose action 0 does nothing.
        most: frames at most.
    """

    def __init__(self, env: gymnasium.Env, most: int) -> None:
        super().__init__(env)
        self.most = most

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Open an episode; an end within the no-ops opens another."""
        observation, info = self.env.reset(**options)
        for _ in range(int(self.unwrapped.np_random.integers(self.most + 1))):
            observation, _, terminated, truncated, info = self.env.step(0)
            if terminated or truncated:
                observation, info = self.env.reset()
        return observation, info


def _make_game(
    game: str,
    noops: int,
    sticky: float,
    all_actions: bool,
    action_repeat: int,
    max_steps: int | None,
) -> EnvBase:
    ale_py = require_package("ale_py", "atari", f"env.game={game}")
    gymnasium.register_envs(ale_py)
    name = "".join(word[:1].upper() + word[1:] for word in game.split("_"))
    try:
        env = gymnasium.make(
            f"ALE/{name}-v5", frameskip=1, repeat_action_probability=sticky,
            full_action_space=all_actions, render_mode="rgb_array", max_episode_steps=10**9,
        )  # fmt: skip
    except gymnasium.error.Error as error:
        raise ValueError(
            f"env.game={game}: the Arcade Learning Environment has no game {name!r}. Write it in "
            "small letters, such as pong or ms_pacman."
        ) from error
    env = RandomNoops(env, noops) if noops else env
    return plain_env(MaxAndSkipObservation(env, action_repeat), max_steps=max_steps)


def make_atari_env(
    game: str = "pong",
    num_envs: int = 1,
    seed: int = 0,
    image_size: int = 64,
    grayscale: bool = False,
    action_repeat: int = 4,
    noops: int = 30,
    sticky: float = 0.0,
    all_actions: bool = False,
    max_steps: int | None = 27_000,
    parallel: bool = False,
) -> EnvBase:
    """Make N copies of an Atari game.

    Frames are repeated, the brighter of the last two shown and resized; a lost life ends nothing
    and rewards are not clipped, as in the paper's Atari100k table.

    Args:
        game: such as "pong" or "ms_pacman".
        num_envs, seed, image_size, grayscale, parallel: see `make_gym_env`.
        action_repeat: frames per agent step, at least 2.
        noops: frames without an action that open an episode, at most.
        sticky: probability that a frame repeats the previous action; 0 in the 100k benchmark.
        all_actions: all 18 actions instead of those that the game uses.
        max_steps: agent steps until truncation, 27,000 are 108,000 frames; None: never.

    Raises:
        ImportError: ale-py is missing. ValueError: an unknown game.
    """
    check_at_least_one(max_steps=max_steps)
    if action_repeat < 2:  # the brighter of two frames is shown
        raise ValueError(f"env.action_repeat must be at least 2 in this env; got {action_repeat}.")
    make = functools.partial(_make_game, game, noops, sticky, all_actions, action_repeat, max_steps)
    return with_agent_interface(batch_of(num_envs, make, seed, parallel), image_size, grayscale)
