"""The viewer shows agents of any image, any kind of action, and keeps to a mask."""

from __future__ import annotations

import functools
from typing import Any

import gym_examples  # noqa: F401
import numpy as np
import pytest
import torch
from gymnasium import spaces
from tiny import make_tiny
from torchrl.envs import EnvBase
from torchrl.modules import TanhNormal

from mario_dreamer.agent.distribution_module import likeliest
from mario_dreamer.config.load_agent import LoadedAgent
from mario_dreamer.envs.gymnasium import make_gym_env
from mario_dreamer.viewer.inspector import AgentInspector
from mario_dreamer.viewer.simulation import Simulation

BYTES = {"low": 0, "high": 255, "dtype": np.uint8}
MASK = {"legal": [1, 2], "info": {"action_mask": np.array([0, 1, 1, 0], np.int8)}}
GREY = spaces.Box(shape=(16, 16), **BYTES)
ENVS: dict[str, dict[str, Any]] = {
    "grey": {"space": GREY},
    "stacked": {"space": spaces.Box(shape=(16, 16, 12), **BYTES), "actions": spaces.Box(-2, 2, (4,))},
    "several": {"space": spaces.Dict(left=GREY, right=GREY), "actions": spaces.MultiBinary(3)},
    "masked": {"space": GREY, "actions": spaces.Discrete(4), **MASK},
}  # fmt: skip


def make_case(num_envs: int = 1, seed: int = 0, case: str = "grey") -> EnvBase:
    """Make one of `ENVS`."""
    return make_gym_env("DreamerTest/Sampled-v0", num_envs, seed, image_size=None, options=ENVS[case])


@functools.cache
def agent_for(case: str) -> LoadedAgent:
    """Make a tiny untrained agent for one of `ENVS`."""
    tiny = make_tiny("env=own", f"env._target_={__name__}.make_case", f"+env.case={case}",
                     without=["env.image_size", "env.length", "env"])  # fmt: skip
    return LoadedAgent(tiny.cfg, None, 0, None, tiny.policy, tiny.agent.critic, 0.99)


def simulate(case: str) -> Simulation:
    """Let the agent play."""
    agent = agent_for(case)
    return Simulation(AgentInspector(agent.policy, agent.critic), agent, horizon=3)


@pytest.mark.parametrize("case", ["grey", "stacked", "several"])
def test_every_picture_is_sent_in_colour(case: str) -> None:
    simulation = simulate(case)
    simulation.tick()
    shown = simulation.tick().pictures
    names = ["screen", "observation", "decoded", "foreseen"]
    assert [tuple(shown[name].shape) for name in names] == [(16, 16, 3)] * 4


def test_buttons_are_shown_by_their_probability() -> None:
    info = simulate("several").tick().info
    assert len(info["probs"]) == 3 and all(0.3 < share < 0.7 for share in info["probs"])


def test_the_viewer_keeps_to_a_mask() -> None:
    simulation = simulate("masked")  # whose env ends with an error at an illegal action
    for simulation.is_greedy in (False, True):
        for _ in range(10):
            simulation.tick()
    simulation.enter_dream()
    simulation.held = frozenset({"0"})
    before = len(simulation.env.actions)
    assert np.isnan(simulation.tick().info["reward"]) and len(simulation.env.actions) == before
    simulation.held = frozenset({"1"})
    simulation.tick()
    assert len(simulation.env.actions) == before + 1


def test_a_greedy_action_is_the_one_that_play_takes() -> None:
    simulation = simulate("stacked")
    simulation.tick()
    simulation.is_greedy = True
    foreign = TanhNormal(torch.full((1, 4), 0.5), torch.ones(1, 4), event_dims=1)  # TorchRL's
    assert torch.equal(simulation._choose(foreign), likeliest(foreign)[0])
