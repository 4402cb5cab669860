"""What the inspector predicts from a state, and the rollouts that it keeps going."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch.distributions import Independent, Normal
from torchrl.data import Binary, Bounded, MultiOneHot, OneHot, TensorSpec, Unbounded

from mario_dreamer import keys
from mario_dreamer.viewer.agents import ViewedAgent
from mario_dreamer.viewer.controller import ActionSet
from mario_dreamer.viewer.environment import action_set
from mario_dreamer.viewer.inspector import (
    AgentInspector,
    Belief,
    OpenLoopRollouts,
    as_bytes,
    describe_policy,
)
from mario_dreamer.viewer.simulation import Simulation


class Diary:
    """Stands in for an inspector: every step writes the action behind what was there before."""

    def imagine(self, belief: Belief, action: int) -> Belief:
        return Belief(belief.deter * 10 + action, belief.stoch, belief.logits)


def moment(number: int) -> Belief:
    zeros = torch.zeros(1, 1, 1)
    return Belief(torch.tensor([[float(number)]]), zeros, zeros)


def test_a_rollout_shown_was_begun_k_steps_ago() -> None:
    rollouts = OpenLoopRollouts(Diary(), 3, moment(7))
    shown = [
        rollouts.advance(action, moment(time)) for time, action in enumerate([1, 2, 3, 4, 5], 1)
    ]
    # Until 3 steps are over, all of them began at the opening, 7; then at 1, at 2.
    assert [(int(belief.deter), age) for belief, age in shown] == [
        (71, 1), (712, 2), (7123, 3), (1234, 3), (2345, 3),
    ]  # fmt: skip


def test_a_horizon_of_one_shows_the_prediction_of_a_step_ago() -> None:
    rollouts = OpenLoopRollouts(Diary(), 1, moment(7))
    assert [int(rollouts.advance(a, moment(a))[0].deter) for a in (4, 5, 6)] == [74, 45, 56]


def test_predictions_are_finite_numbers_and_probabilities(
    agent: ViewedAgent, simulation: Simulation
) -> None:
    belief = agent.inspector.observe(simulation.env.begin(0), None, None)
    prediction, imagined = agent.inspector.predict(belief)
    assert imagined is None and prediction.frame.shape == (3, 32, 32)
    assert math.isclose(sum(describe_policy(prediction.policy)["probs"]), 1.0, rel_tol=1e-4)
    torch.testing.assert_close(prediction.latent.sum(-1), torch.ones(4))
    assert 0.0 < prediction.info["cont"] < 1.0 and prediction.info["kl"] >= 0.0
    assert prediction.info["classes"] == belief.stoch[0].argmax(-1).tolist()


def test_the_first_frame_of_an_episode_erases_the_past(
    agent: ViewedAgent, simulation: Simulation
) -> None:
    observe, action = agent.inspector.observe, simulation.env.action_set.one_hot(1)
    observation = simulation.env.begin(0)
    first = observe(observation, None, None)
    assert torch.equal(first.deter, observe(observation, None, None).deter)
    assert not torch.equal(first.deter, observe(observation, first, action).deter)


def test_observing_is_one_step_of_the_policy(agent: ViewedAgent, simulation: Simulation) -> None:
    policy, observation = agent.loaded.policy, simulation.env.begin(0)
    root = observation.clone()
    rssm = policy.world_model.rssm
    deter, stoch = rssm.initial(1, torch.device("cpu"))
    root.update(
        {"is_init": torch.ones(1, 1, dtype=torch.bool), keys.DETER: deter, keys.STOCH: stoch,
         keys.PREV_ACTION: torch.zeros(1, 3)}
    )  # fmt: skip
    torch.manual_seed(1)
    played = policy(root)
    torch.manual_seed(1)
    belief = agent.inspector.observe(observation, None, None)
    assert torch.equal(played["next", keys.DETER], belief.deter)
    assert torch.equal(played["next", keys.STOCH], belief.stoch)


def test_frames_decoded_together_equal_those_decoded_alone(
    agent: ViewedAgent, simulation: Simulation
) -> None:
    belief = agent.inspector.observe(simulation.env.begin(0), None, None)
    imagined = agent.inspector.imagine(belief, simulation.env.action_set.one_hot(2))
    _, together = agent.inspector.predict(belief, imagined)
    difference = together.int() - agent.inspector.decode(imagined)[0].int()
    assert difference.abs().max() <= 1  # batches of two round differently


def test_a_broken_agent_shows_black_instead_of_crashing() -> None:
    frame = torch.tensor([float("nan"), float("inf"), -1.0, 0.5])
    assert as_bytes(frame).tolist() == [0, 255, 0, 128]


def test_a_broken_actor_takes_the_first_action(simulation: Simulation) -> None:
    simulation.tick()
    broken = SimpleNamespace(sample=lambda: torch.multinomial(torch.full((1, 3), torch.nan), 1))
    assert simulation._choose(broken).tolist() == [1.0, 0.0, 0.0]


def test_continuous_policies_are_shown_by_mean_and_spread() -> None:
    torch.manual_seed(0)
    policy = Independent(Normal(torch.tensor([[0.5, -1.0]]), torch.tensor([[0.01, 2.0]])), 1)
    shown = describe_policy(policy)
    assert shown["mean"] == pytest.approx([0.5, -1.0], abs=0.8)
    assert shown["std"][0] < 0.02 and 1.0 < shown["std"][1] < 3.0


def test_held_buttons_push_a_continuous_action_to_its_ends() -> None:
    actions = ActionSet(("action 0", "action 1"), low=(-2.0, -1.0), high=(2.0, 1.0))
    assert actions.buttons == ["left", "right", "down", "up"]
    assert actions.action_of({"right"}).tolist() == [2.0, 0.0]
    assert actions.action_of({"left", "up", "A"}).tolist() == [-2.0, 1.0]
    assert actions.action_of({"left", "right"}).tolist() == [0.0, 0.0]


def test_held_digits_choose_among_several_choices() -> None:
    names = tuple(f"action {index}" for index in range(5))
    actions = ActionSet(names, choices=(3, 2))
    assert actions.action_of(set()).tolist() == [1, 0, 0, 1, 0]
    assert actions.action_of({"2", "4"}).tolist() == [0, 0, 1, 0, 1]
    switches = ActionSet(names, choices=(1,) * 5)
    assert switches.action_of({"0", "3"}).tolist() == [1, 0, 0, 1, 0]
    assert ActionSet(names[:1], choices=(1,)).action_of(set()).tolist() == [0]


@pytest.mark.parametrize(
    ("spec", "choices", "is_continuous"),
    [
        (OneHot(3, shape=(1, 3)), (), False),
        (MultiOneHot([3, 2], shape=(1, 5)), (3, 2), False),
        (Binary(n=2, shape=(1, 2)), (1, 1), False),
        (Bounded(-2.0, 2.0, (1, 2)), (), True),
        (Unbounded((1, 2)), (), True),
    ],
)
def test_every_kind_of_action_has_a_description(
    spec: TensorSpec, choices: tuple[int, ...], is_continuous: bool
) -> None:
    found = action_set(SimpleNamespace(base_env=None, action_spec=spec))
    assert (found.choices, found.is_continuous) == (choices, is_continuous)
    assert len(found.names) == spec.shape[-1]
    if is_continuous:
        end = 2.0 if isinstance(spec, Bounded) else 3.0
        assert (found.low, found.high) == ((-end, -end), (end, end))


def test_buttons_are_those_of_the_action_set() -> None:
    assert ActionSet(("noop", "right", "right+A")).buttons == ["A", "right"]
    assert ActionSet(("action 0", "action 1")).buttons == ["0", "1"]


def test_the_agent_must_observe_pixels(agent: ViewedAgent) -> None:
    blind = SimpleNamespace(world_model=SimpleNamespace(observation_keys=[keys.VECTOR]))
    with pytest.raises(ValueError, match="observes only \\['vector'\\]"):
        AgentInspector(blind, None)
