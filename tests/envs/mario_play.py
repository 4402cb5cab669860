"""Play Mario on the real emulator: the winning run of 1-1, one button held, two runs compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tensordict import TensorDict
from torch.nn.functional import one_hot
from torchrl.envs import TransformedEnv

from mario_dreamer.envs.mario.make import make_mario_env

RUNS = ("right", "right+A", "right+B", "right+A+B")  # the bytes 128, 129, 130, 131
BACKENDS = ("batched", "serial")


def winning_actions() -> list[int]:
    """The winning run of 1-1 as indices into `RUNS`, 314 agent steps of 4 frames."""
    return (np.load(Path(__file__).parent / "mario" / "win-1-1.npy").astype(int) - 128).tolist()


def play(env: TransformedEnv, actions: list[int]) -> TensorDict:
    """Play one env until the episode or the list of actions ends; [n]."""
    size, steps = env.action_spec.shape[-1], iter(actions)

    def act(tensordict: TensorDict) -> TensorDict:
        return tensordict.set("action", one_hot(torch.tensor([next(steps)]), size))

    return env.rollout(len(actions), act)[0]


def hold(name: str, steps: int = 60, **options: object) -> TensorDict:
    """Hold one button from the start of 1-1."""
    env = make_mario_env(action_set=[name], **options)
    return play(env, [0] * steps)


def assert_same(one: TensorDict, other: TensorDict) -> None:
    """Every key equal, to the bit."""
    keys = set(one.keys(True, True))
    assert keys == set(other.keys(True, True))
    for key in keys:
        assert one[key].dtype == other[key].dtype, key
        assert torch.equal(one[key], other[key]), key
