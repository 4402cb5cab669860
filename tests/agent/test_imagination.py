from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from tiny import Tiny, make_tiny

from mario_dreamer.agent.distribution_module import DistributionModule
from mario_dreamer.agent.imagination import Imagination


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    """A fresh agent, which no test changes."""
    return make_tiny()


def starts(n: int) -> TensorDict:
    stoch = torch.eye(4)[torch.randint(4, (n, 3))]
    return TensorDict(deter=torch.randn(n, 16).tanh(), stoch=stoch, batch_size=[n])


def test_h_imagined_steps_have_h_plus_one_states_and_h_actions(tiny: Tiny) -> None:
    dream = tiny.learner.imagination(starts(5))
    assert dream["feat"].shape == (5, 4, 16 + 12)
    assert dream["action"].shape == (5, 3, 3)


def test_imagination_begins_in_the_given_state(tiny: Tiny) -> None:
    states = starts(5)
    first = tiny.learner.imagination(states)["feat"][:, 0]
    assert torch.equal(first, torch.cat([states["deter"], states["stoch"].flatten(1)], -1))


def test_an_action_leads_from_its_own_state_to_the_next(tiny: Tiny) -> None:
    dream = tiny.learner.imagination(starts(5))
    core = tiny.agent.world_model.rssm.sequence_model
    deter, stoch = dream["feat"][..., :16], dream["feat"][..., 16:].unflatten(-1, (3, 4))
    for t in range(3):
        with torch.no_grad():
            after = core(deter[:, t], stoch[:, t], dream["action"][:, t])
        torch.testing.assert_close(after, deter[:, t + 1])


def test_imagined_latents_and_actions_are_one_hot(tiny: Tiny) -> None:
    dream = tiny.learner.imagination(starts(7))
    stoch = dream["feat"][..., 16:].unflatten(-1, (3, 4))
    for onehot in (stoch, dream["action"]):
        assert torch.equal(onehot.sum(-1), torch.ones(onehot.shape[:-1]))
        assert set(onehot.unique().tolist()) == {0.0, 1.0}


def test_actions_are_sampled_not_the_likeliest(tiny: Tiny) -> None:
    chosen = tiny.learner.imagination(starts(600))["action"].sum((0, 1)) / 1800
    assert (chosen > 0.2).all(), "a fresh actor is almost uniform over its three actions"


def test_imagination_carries_no_gradient(tiny: Tiny) -> None:
    dream = tiny.learner.imagination(starts(4))
    assert not dream["feat"].requires_grad and not dream["action"].requires_grad


def test_a_horizon_below_one_is_refused(tiny: Tiny) -> None:
    with pytest.raises(ValueError, match="imag_horizon must be at least 1, got 0"):
        Imagination(tiny.agent.world_model.rssm, tiny.agent.actor, 0)


def test_a_distribution_without_a_gradient_is_refused_by_name(tiny: Tiny) -> None:
    head = torch.nn.Linear(28, 3)
    head.dist = lambda logits: torch.distributions.OneHotCategorical(logits=logits)
    actor = DistributionModule(head, ["feat"], "action")
    dream = Imagination(tiny.agent.world_model.rssm, actor, 2, differentiable=True)
    with pytest.raises(ValueError, match=r"OneHotCategorical has no rsample\(\).*actor_grad"):
        dream(starts(2))
