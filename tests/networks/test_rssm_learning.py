"""The two KL terms and where gradients go."""

from __future__ import annotations

import gc
import weakref
from functools import partial

import pytest
import torch
from torch import Tensor

from mario_dreamer.networks import GRU, RSSM, BlockGRU, regions
from mario_dreamer.networks.weight_gradients import weight_gradients_at_once

SIZES = {"embed_dim": 6, "action_dim": 5, "deter_dim": 16, "stoch_shape": (4, 3), "hidden_dim": 8}


def batch() -> tuple[Tensor, Tensor, Tensor]:
    is_first = torch.zeros(3, 6, 1, dtype=torch.bool)
    is_first[:, 0] = is_first[1, 3] = True
    return torch.randn(3, 6, 6), torch.rand(3, 6, 5), is_first


def reached(model: torch.nn.Module) -> set[str]:
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }


@pytest.mark.parametrize(("beta_dyn", "total"), [(1.0, 1.1), (0.5, 0.6)])
def test_equal_guesses_cost_the_free_nat_and_teach_nothing(beta_dyn: float, total: float) -> None:
    rssm = RSSM(BlockGRU, **SIZES)
    logits = torch.zeros(3, 6, 4, 3, requires_grad=True)
    dyn, rep, kl = rssm.kl_loss(logits, logits.clone())
    loss = (beta_dyn * dyn + 0.1 * rep).mean()
    assert loss.item() == pytest.approx(total) and (kl == 0).all()
    loss.backward()
    assert (logits.grad == 0).all()


def test_free_nats_clip_the_sum_over_categoricals_not_the_mean() -> None:
    rssm = RSSM(BlockGRU, **SIZES, unimix=0.0)
    # One state 0.4 nats apart in each of 4 categoricals, one state not at all.
    post = torch.zeros(1, 2, 4, 3)
    post[0, 0, :, 0] = 2.0
    one = post[0, 0, 0].softmax(-1) * (post[0, 0, 0].log_softmax(-1) + torch.log(torch.tensor(3.0)))
    each = one.sum().item()
    assert 0.25 < each < 1.0  # below 1 alone, above it together
    dyn, rep, kl = rssm.kl_loss(post, torch.zeros_like(post))
    assert dyn.shape == rep.shape == kl.shape == (1, 2)
    assert dyn[0].tolist() == pytest.approx([4 * each, 1.0]) == rep[0].tolist()
    assert kl[0].tolist() == pytest.approx([4 * each, 0.0])


@pytest.mark.parametrize(("nats", "silent"), [(0.9, True), (1.1, False)])
def test_free_nats_silence_a_small_kl(nats: float, silent: bool) -> None:
    rssm = RSSM(BlockGRU, **SIZES)
    post = torch.randn(1, 1, 4, 3, requires_grad=True)
    prior = torch.randn(1, 1, 4, 3, requires_grad=True)
    kl = rssm.kl_loss(post, prior)[2].item()
    dyn, rep, _ = rssm.kl_loss(post, prior, free_nats=kl / nats)
    (dyn + rep).sum().backward()
    assert bool((post.grad == 0).all() and (prior.grad == 0).all()) is silent


def test_the_kl_of_32_disjoint_choices_is_bounded_by_unimix() -> None:
    rssm = RSSM(BlockGRU, **{**SIZES, "stoch_shape": (32, 32)})
    post, prior = torch.full((2, 1, 1, 32, 32), -1e4)
    post[..., 0] = prior[..., 1] = 1e4
    assert rssm.kl_loss(post, prior)[2].item() == pytest.approx(255.38, abs=0.01)


def test_rep_teaches_the_posterior_and_never_the_prior() -> None:
    rssm = RSSM(BlockGRU, **SIZES)
    _, _, post, prior = rssm(*batch())
    rssm.kl_loss(post, prior, free_nats=0.0)[1].mean().backward()
    everything = {name for name, _ in rssm.named_parameters()}
    assert reached(rssm) == {name for name in everything if not name.startswith("prior.")}


def test_in_one_step_the_dyn_loss_trains_only_the_prior() -> None:
    rssm = RSSM(BlockGRU, **SIZES)
    deter, stoch = torch.randn(3, 16), torch.rand(3, 4, 3)
    embed, action, _ = (x[:, 0] for x in batch())
    _, _, post, prior = rssm.obs_step(
        deter, stoch, action, embed, torch.zeros(3, 1, dtype=torch.bool)
    )
    rssm.kl_loss(post, prior, free_nats=0.0)[0].mean().backward()
    everything = {name for name, _ in rssm.named_parameters()}
    # Over many steps it does, through the sampled z of the steps before; not through its logits.
    assert reached(rssm) == {name for name in everything if not name.startswith("posterior.")}


def test_gradients_stop_at_the_other_side_of_each_term() -> None:
    rssm = RSSM(BlockGRU, **SIZES)
    post, prior = torch.randn(2, 3, 6, 4, 3).requires_grad_().unbind(0)
    dyn, rep, kl = rssm.kl_loss(post, prior, free_nats=0.0)
    to_post, to_prior = torch.autograd.grad(
        dyn.sum(), [post, prior], allow_unused=True, retain_graph=True
    )
    assert to_post is None and to_prior.abs().sum() > 0
    to_post, to_prior = torch.autograd.grad(rep.sum(), [post, prior], allow_unused=True)
    assert to_prior is None and to_post.abs().sum() > 0
    assert not kl.requires_grad


@pytest.mark.parametrize("style", ["nature", "v1"])
def test_every_parameter_learns(style: str) -> None:
    if style == "nature":
        rssm = RSSM(BlockGRU, **SIZES)
    else:
        rssm = RSSM(GRU, **SIZES, prior_layers=1, norm="layer", initial="learned", init="fan_avg")
    deter, stoch, post, prior = rssm(*batch())
    weights = torch.randn(rssm.feat_dim)
    dyn, rep, _ = rssm.kl_loss(post, prior, free_nats=0.0)
    ((rssm.feat(deter, stoch) * weights).sum() + dyn.mean() + rep.mean()).backward()
    assert reached(rssm) == {name for name, _ in rssm.named_parameters()}


def test_gradients_reach_the_past_through_sampled_states() -> None:
    rssm = RSSM(BlockGRU, **SIZES)
    embed, action, is_first = batch()
    embed.requires_grad_()
    deter = rssm(embed, action, is_first)[0]
    (gradient,) = torch.autograd.grad((deter[:, -1] * torch.randn(16)).sum(), embed)
    assert (gradient[0, :5].abs().sum(-1) > 0).all()  # every earlier frame of the episode
    assert (gradient[0, 5] == 0).all()  # h_t does not see x_t
    assert (gradient[1, :3] == 0).all()  # nor the episode before
    assert (gradient[1, 3:5].abs().sum(-1) > 0).all()


def test_imagined_actions_get_a_gradient_where_one_is_wanted() -> None:
    rssm = RSSM(BlockGRU, **SIZES)
    action = torch.rand(2, 4, 5, requires_grad=True)
    deter, stoch = rssm.initial(2, "cpu")
    rssm.imagine_with_action(deter, stoch, action)[0][:, -1].sum().backward()
    assert (action.grad.abs().sum(-1) > 0).all()


MODELS = {
    "nature": partial(RSSM, BlockGRU, posterior_layers=2),
    "v1": partial(RSSM, GRU, norm="layer", initial="learned", init="fan_avg"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_gradients_of_all_steps_at_once_equal_those_of_each_step(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "_compile", lambda function: function)
    torch.manual_seed(0)
    rssm = MODELS[kind](**SIZES)
    embed, action, is_first = batch()
    embed.requires_grad_()
    noise = torch.rand(3, 6, 4, 1)
    tasks = [torch.randn(3, 6, *size) for size in ((16,), (4, 3), (4, 3), (4, 3))]

    def gradients() -> list[Tensor]:
        outputs = rssm.observe(embed, action, is_first, noise=noise)
        total = sum((task * x).sum() for task, x in zip(tasks, outputs, strict=True))
        return torch.autograd.grad(total, [embed, *rssm.parameters()])

    each = gradients()
    with regions.compiled_regions():
        at_once = gradients()
    assert all(w.requires_grad for w in rssm.parameters())
    for one, other in zip(each, at_once, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=5e-6)


def test_an_observed_sequence_is_freed_with_its_last_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(regions, "_compile", lambda function: function)
    kept: list[weakref.ref] = []

    def noted(modules, again, shapes, device):
        kept.append(weakref.ref(again))
        return weight_gradients_at_once(modules, again, shapes, device)

    monkeypatch.setattr("mario_dreamer.networks.rssm.weight_gradients_at_once", noted)
    gc.disable()
    try:
        with regions.compiled_regions():
            deter = RSSM(BlockGRU, **SIZES).observe(*batch())[0]
        assert kept[0]() is not None
        del deter
        assert kept[0]() is None
    finally:
        gc.enable()
