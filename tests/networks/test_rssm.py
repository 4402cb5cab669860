from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from mario_dreamer.networks import GRU, RSSM, BlockGRU

EMBED, ACTION, DETER, STOCH, HIDDEN = 6, 5, 16, (4, 3), 8
STYLES = {
    "nature": partial(RSSM, BlockGRU),
    "v1": partial(RSSM, GRU, prior_layers=1, norm="layer", initial="learned", init="fan_avg"),
    "mixed": partial(RSSM, partial(GRU, norm="rms"), posterior_layers=2, initial="learned"),
}


@pytest.fixture(params=STYLES)
def rssm(request: pytest.FixtureRequest) -> RSSM:
    model = STYLES[request.param](EMBED, ACTION, DETER, STOCH, HIDDEN)
    if model.initial_deter is not None:
        torch.nn.init.normal_(model.initial_deter)
    return model


def sequence(length: int = 6, batch: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """embed [B, T, E], one-hot prev_action [B, T, A], is_first [B, T, 1], first at t = 0."""
    action = torch.nn.functional.one_hot(torch.randint(ACTION, (batch, length)), ACTION).float()
    is_first = torch.zeros(batch, length, 1, dtype=torch.bool)
    is_first[:, 0] = True
    return torch.randn(batch, length, EMBED), action, is_first


def any_state(batch: int = 3) -> tuple[Tensor, Tensor]:
    choice = torch.randint(STOCH[1], (batch, STOCH[0]))
    return torch.randn(batch, DETER), torch.nn.functional.one_hot(choice, STOCH[1]).float()


def test_observe_gives_states_and_logits_for_every_step(rssm: RSSM) -> None:
    deter, stoch, post, prior = rssm(*sequence())
    assert deter.shape == (3, 6, DETER)
    assert stoch.shape == post.shape == prior.shape == (3, 6, *STOCH)
    assert torch.equal(stoch.sum(-1), torch.ones(3, 6, 4))
    assert set(stoch.unique().tolist()) == {0.0, 1.0}
    assert rssm.feat(deter, stoch).shape == (3, 6, rssm.feat_dim) and rssm.feat_dim == 16 + 12


def test_feat_is_memory_first_then_choices(rssm: RSSM) -> None:
    deter, stoch = any_state()
    feat = rssm.feat(deter, stoch)
    assert torch.equal(feat[:, :DETER], deter)
    assert torch.equal(feat[:, DETER:].view(3, *STOCH), stoch)


def test_observing_a_sequence_is_observing_its_frames_one_by_one(rssm: RSSM) -> None:
    embed, action, is_first = sequence()
    is_first[1, 3] = True
    torch.manual_seed(1)
    whole = rssm.observe(embed, action, is_first)
    torch.manual_seed(1)
    state, steps = rssm.initial(3, "cpu"), []
    for t in range(6):
        steps.append(rssm.obs_step(*state, action[:, t], embed[:, t], is_first[:, t]))
        state = steps[-1][:2]
    for together, apart in zip(whole, zip(*steps, strict=True), strict=True):
        torch.testing.assert_close(together, torch.stack(apart, 1))


def test_the_split_posterior_equals_the_whole_posterior(rssm: RSSM) -> None:
    embed, action, is_first = sequence()
    deter, _, post, prior = rssm.observe(embed, action, is_first)
    expected = rssm.posterior(torch.cat([deter, embed], -1)).view_as(post)
    torch.testing.assert_close(post, expected)
    torch.testing.assert_close(prior, rssm.prior(deter).view_as(prior))


def test_nothing_before_is_first_leaks_past_it(rssm: RSSM) -> None:
    embed, action, is_first = sequence()
    is_first[:, 0], is_first[:, 3] = False, True
    other_embed, other_action = embed.clone(), action.clone()
    other_embed[:, :3] += 1.0
    other_action[:, :4] = other_action[:, :4].roll(1, -1)  # also the action into the first frame
    outcomes = []
    for frames, actions, state in (
        (embed, action, any_state()),
        (other_embed, other_action, any_state()),
    ):
        torch.manual_seed(1)
        outcomes.append(rssm.observe(frames, actions, is_first, *state))
    for one, other in zip(*outcomes, strict=True):
        assert torch.equal(one[:, 3:], other[:, 3:])
    assert not torch.equal(outcomes[0][0][:, :3], outcomes[1][0][:, :3])


def test_one_stream_that_resets_leaves_the_others_alone(rssm: RSSM) -> None:
    embed, action, is_first = sequence()
    torch.manual_seed(1)
    calm = rssm.observe(embed, action, is_first)
    is_first[1, 2] = True
    torch.manual_seed(1)
    reset = rssm.observe(embed, action, is_first)
    for one, other in zip(calm, reset, strict=True):
        assert torch.equal(one[[0, 2]], other[[0, 2]])
    assert not torch.equal(calm[0][1, 2:], reset[0][1, 2:])


def test_is_first_resets_to_the_initial_state(rssm: RSSM) -> None:
    embed, _, is_first = sequence(1)
    still, state = torch.zeros(3, 1, ACTION), any_state()
    torch.manual_seed(1)
    shown = rssm.observe(embed, still + 1.0, is_first, *state)
    torch.manual_seed(1)
    fresh = rssm.observe(embed, still, ~is_first)
    for one, other in zip(shown, fresh, strict=True):
        torch.testing.assert_close(one, other)


def test_the_past_matters_where_nothing_begins(rssm: RSSM) -> None:
    embed, action, is_first = sequence(1)
    one, other = (rssm.observe(embed, action, ~is_first, *any_state())[0] for _ in range(2))
    assert (one != other).any()


def test_the_initial_state_is_zeros_or_what_was_learned() -> None:
    deter, stoch = STYLES["nature"](EMBED, ACTION, DETER, STOCH, HIDDEN).initial(2, "cpu")
    assert (deter == 0).all() and (stoch == 0).all()
    rssm = STYLES["v1"](EMBED, ACTION, DETER, STOCH, HIDDEN)
    assert (rssm.initial_deter == 0).all()  # it begins where the other style stays
    torch.nn.init.constant_(rssm.initial_deter, 2.0)
    deter, stoch = rssm.initial(2, "cpu")
    torch.testing.assert_close(deter, torch.full((2, DETER), 0.9640276))
    likeliest = rssm.prior(deter).view(2, *STOCH).argmax(-1)
    assert torch.equal(stoch.argmax(-1), likeliest) and torch.equal(stoch.sum(-1), torch.ones(2, 4))


def test_imagining_along_actions_is_imagining_step_by_step(rssm: RSSM) -> None:
    state, action = any_state(), sequence()[1]
    torch.manual_seed(1)
    whole = rssm.imagine_with_action(*state, action)
    torch.manual_seed(1)
    steps = []
    for t in range(6):
        steps.append(rssm.img_step(*state, action[:, t]))
        state = steps[-1][:2]
    for together, apart in zip(whole, zip(*steps, strict=True), strict=True):
        assert torch.equal(together, torch.stack(apart, 1))


def test_imagining_and_observing_share_h_and_the_prior(rssm: RSSM) -> None:
    embed, action, is_first = sequence(1)
    state = any_state()
    seen, _, _, guess = rssm.obs_step(*state, action[:, 0], embed[:, 0], ~is_first[:, 0])
    dreamed, _, dreamed_guess = rssm.img_step(*state, action[:, 0])
    torch.testing.assert_close(seen, dreamed)
    torch.testing.assert_close(guess, dreamed_guess)


def test_actions_beyond_one_are_scaled_back(rssm: RSSM) -> None:
    state, action = any_state(), torch.tensor([[0.5, -3.0, 7.0, 1.0, 0.0]]).expand(3, -1)
    bounded = torch.tensor([[0.5, -1.0, 1.0, 1.0, 0.0]]).expand(3, -1)
    assert torch.equal(rssm.img_step(*state, action)[0], rssm.img_step(*state, bounded)[0])


def test_states_are_sampled_never_the_mode(rssm: RSSM) -> None:
    data = sequence()
    first, second = rssm(*data)[1], rssm(*data)[1]
    assert not torch.equal(first, second)


def test_whole_number_actions_and_flags_are_accepted(rssm: RSSM) -> None:
    embed, action, is_first = sequence()
    torch.manual_seed(1)
    floats = rssm(embed, action, is_first)
    torch.manual_seed(1)
    for one, other in zip(floats, rssm(embed, action.long(), is_first.float()), strict=True):
        assert torch.equal(one, other)


def test_bad_choices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"initial must be 'zeros' or 'learned'; got 'random'"):
        RSSM(GRU, EMBED, ACTION, DETER, STOCH, HIDDEN, initial="random")
    with pytest.raises(ValueError, match=r"posterior_layers must be 1 or more; got 0"):
        RSSM(GRU, EMBED, ACTION, DETER, STOCH, HIDDEN, posterior_layers=0)
    with pytest.raises(ValueError, match=r"stoch_shape must be \(S, K\); got \(4,\)"):
        RSSM(GRU, EMBED, ACTION, DETER, (4,), HIDDEN)


def test_given_numbers_decide_what_is_drawn(rssm: RSSM) -> None:
    deter, stoch = any_state(1)
    action, first = torch.eye(ACTION)[:1], torch.ones(1, 1, dtype=torch.bool)
    embed = torch.randn(1, EMBED)
    low, high = (
        rssm.obs_step(deter, stoch, action, embed, first, torch.full((1, STOCH[0], 1), number))[
            1
        ].argmax(-1)
        for number in (0.0, 0.999999)
    )
    assert low.tolist() == [[0] * STOCH[0]] and high.tolist() == [[STOCH[1] - 1] * STOCH[0]]
