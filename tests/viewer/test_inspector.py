"""The agent's head: what it says of a moment, and the dreams it keeps in flight."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from mario_dreamer import keys
from mario_dreamer.viewer.agents import LoadedAgent
from mario_dreamer.viewer.inspector import DreamsInFlight, Mind, State, as_bytes
from mario_dreamer.viewer.simulation import Simulation


class Diary:
    """Stands in for a mind: every step writes the action behind what was there before."""

    def imagine(self, state: State, action: int) -> State:
        return State(state.deter * 10 + action, state.stoch, state.logits)


def moment(number: int) -> State:
    zeros = torch.zeros(1, 1, 1)
    return State(torch.tensor([[float(number)]]), zeros, zeros)


def test_a_dream_shown_was_begun_k_steps_ago_and_followed_the_real_actions() -> None:
    flight = DreamsInFlight(Diary(), horizon=3)
    flight.begin(moment(7))
    shown = [flight.advance(action, moment(time)) for time, action in enumerate([1, 2, 3, 4, 5], 1)]
    # Until 3 steps are over, all there is began at the opening, 7; then at 1, at 2.
    assert [(int(state.deter), age) for state, age in shown] == [
        (71, 1), (712, 2), (7123, 3), (1234, 3), (2345, 3),
    ]  # fmt: skip


def test_a_horizon_of_one_shows_the_guess_of_a_moment_ago() -> None:
    flight = DreamsInFlight(Diary(), horizon=1)
    flight.begin(moment(7))
    assert [int(flight.advance(a, moment(a))[0].deter) for a in (4, 5, 6)] == [74, 45, 56]


def test_a_thought_is_finite_numbers_and_probabilities(
    agent: LoadedAgent, simulation: Simulation
) -> None:
    state = agent.mind.see(simulation.world.begin(0), None, None)
    thought, painted = agent.mind.think(state)
    assert painted is None and thought.picture.shape == (3, 32, 32)
    assert math.isclose(float(thought.action_probs.sum()), 1.0, rel_tol=1e-4)
    torch.testing.assert_close(thought.latent.sum(-1), torch.ones(4))
    assert 0.0 < thought.cont < 1.0 and thought.surprise >= 0.0
    assert thought.drawn == state.stoch[0].argmax(-1).tolist()


def test_the_first_frame_of_an_episode_erases_the_past(
    agent: LoadedAgent, simulation: Simulation
) -> None:
    observation = simulation.world.begin(0)
    fresh = agent.mind.see(observation, None, None).deter
    later = agent.mind.see(observation, agent.mind.see(observation, None, None), 1).deter
    again = agent.mind.see(observation, None, None).deter
    assert torch.equal(fresh, again) and not torch.equal(fresh, later)


def test_a_dream_painted_along_is_the_same_picture_as_alone(
    agent: LoadedAgent, simulation: Simulation
) -> None:
    state = agent.mind.see(simulation.world.begin(0), None, None)
    dream = agent.mind.imagine(state, 2)
    _, along = agent.mind.think(state, dream)
    difference = along.int() - agent.mind.paint(dream)[0].int()
    assert difference.abs().max() <= 1  # batches of two round differently


def test_a_broken_agent_paints_black_instead_of_crashing() -> None:
    picture = torch.tensor([float("nan"), float("inf"), -1.0, 0.5])
    assert as_bytes(picture).tolist() == [0, 255, 0, 128]


def test_an_action_is_chosen_by_its_probability(agent: LoadedAgent) -> None:
    probs = torch.tensor([0.0, 0.25, 0.75])
    drawn = torch.tensor([agent.mind.choose(probs, greedy=False) for _ in range(400)])
    assert 60 < int((drawn == 1).sum()) < 140 and not (drawn == 0).any()
    assert agent.mind.choose(probs, greedy=True) == 2
    assert agent.mind.choose(torch.full((3,), float("nan")), greedy=False) == 0


def test_the_agent_must_read_pictures(agent: LoadedAgent) -> None:
    assert agent.mind.world_model.observation_keys == [keys.PIXELS]
    blind = SimpleNamespace(world_model=SimpleNamespace(observation_keys=[keys.VECTOR]), actor=None)
    with pytest.raises(ValueError, match="reads only \\['vector'\\]"):
        Mind(blind, None)
