from __future__ import annotations

import pytest
import torch
from tiny import gradients, make_tiny, random_records

from mario_dreamer.losses import WorldModelLoss

LN_255 = 5.541264


@pytest.fixture(scope="module")
def loss() -> WorldModelLoss:
    """Of a fresh agent, which the tests that take it do not change."""
    return make_tiny().learner.world_model_loss


def test_an_untrained_reward_loss_is_log_255_for_any_reward(loss: WorldModelLoss) -> None:
    for reward in (0.0, 0.3, -15.0, 1000.0):
        records = random_records()
        records["reward"].fill_(reward)
        terms, _ = loss(records)
        assert float(terms["loss_reward"]) == pytest.approx(LN_255, abs=1e-5)


def blind(world_model: torch.nn.Module) -> None:
    """Both guesses uniform: a KL of exactly zero."""
    with torch.no_grad():
        for out in (world_model.rssm.posterior.out, world_model.rssm.prior.out):
            out.weight.zero_()
            out.bias.zero_()


@pytest.mark.parametrize(("choice", "total"), [("dreamerv3", 1.1), ("seed_v1", 0.6)])
def test_free_nats_leave_a_small_kl_alone(choice: str, total: float) -> None:
    tiny = make_tiny(f"loss={choice}")
    blind(tiny.agent.world_model)
    terms, _ = tiny.learner.world_model_loss(random_records())
    both = terms["loss_dyn"] + terms["loss_rep"]
    assert float(both) == pytest.approx(total)
    assert float(terms["kl"]) == 0.0
    both.backward()
    assert gradients(tiny.agent.world_model) == []


def test_free_nats_apply_to_each_records_sum_not_to_the_mean(loss: WorldModelLoss) -> None:
    _, posterior = loss(random_records(1, 2))
    post, prior = torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4)
    post[0, 0, :, 0] = 50.0  # three certain latents against a uniform guess; record 1 is equal
    p = torch.tensor([0.99 + 0.0025, 0.0025, 0.0025, 0.0025])
    kl = float(3 * (p * (p * 4).log()).sum())
    terms = loss._kl_terms(posterior.update({"post_logits": post, "prior_logits": prior}))
    assert float(terms["kl"]) == pytest.approx(kl / 2, rel=1e-4)
    assert float(terms["loss_dyn"]) == pytest.approx((kl + 1.0) / 2, rel=1e-4)
    assert float(terms["loss_rep"]) == pytest.approx(0.1 * (kl + 1.0) / 2, rel=1e-4)


def test_dyn_teaches_only_the_guess_and_rep_only_the_seen() -> None:
    tiny = make_tiny()
    loss = tiny.learner.world_model_loss
    loss.free_nats = 0.0
    terms, _ = loss(random_records())
    terms["loss_dyn"].backward(retain_graph=True)
    names = gradients(tiny.agent.world_model)
    assert any(name.startswith("rssm.prior") for name in names)
    # The sequence model carries the guess back to earlier frames; the last posterior gets none.
    post = WorldModelLoss(tiny.agent.world_model)._kl_terms
    logits = [torch.randn(1, 2, 3, 4, requires_grad=True) for _ in range(2)]
    rollouts = {"post_logits": logits[0], "prior_logits": logits[1]}
    terms = post(rollouts)
    dyn = torch.autograd.grad(terms["loss_dyn"], logits, retain_graph=True, allow_unused=True)
    rep = torch.autograd.grad(terms["loss_rep"], logits, allow_unused=True)
    assert dyn[0] is None or float(dyn[0].abs().sum()) == 0.0
    assert rep[1] is None or float(rep[1].abs().sum()) == 0.0


def test_a_white_frame_guessed_grey_costs_a_quarter_per_number() -> None:
    tiny = make_tiny()
    decoder = tiny.agent.world_model.decoders["pixels"].head
    with torch.no_grad():
        for param in decoder.parameters():
            param.zero_()
    records = random_records()
    records["pixels"].fill_(255)
    terms, _ = tiny.learner.world_model_loss(records)
    assert float(terms["loss_recon"]) == pytest.approx(3 * 16 * 16 * 0.25)


def test_death_and_time_limit_are_taught_differently() -> None:
    tiny = make_tiny()
    out = tiny.agent.world_model.cont.head.mlp.out
    with torch.no_grad():
        out.weight.zero_()
        out.bias.fill_(3.0)
    yes, no = torch.tensor(3.0).sigmoid().log(), torch.tensor(-3.0).sigmoid().log()

    def cost(is_terminal: bool) -> float:
        records = random_records()
        records["is_last"].fill_(True)
        records["is_terminal"].fill_(is_terminal)
        return float(tiny.learner.world_model_loss(records)[0]["loss_cont"])

    gamma = float(tiny.cfg.discount)
    assert cost(True) == pytest.approx(-float(no), rel=1e-5)
    assert cost(False) == pytest.approx(-float(gamma * yes + (1 - gamma) * no), rel=1e-5)


def test_every_term_reaches_the_encoder_through_the_latents() -> None:
    tiny = make_tiny("reward.outscale=1.0")
    world_model, loss = tiny.agent.world_model, tiny.learner.world_model_loss
    loss.free_nats = 0.0
    terms, _ = loss(random_records())
    for term in ("loss_recon", "loss_reward", "loss_cont", "loss_rep"):
        world_model.zero_grad()
        terms[term].backward(retain_graph=True)
        names = gradients(world_model)
        assert any(name.startswith("encoder") for name in names), term
        assert any(name.startswith("rssm.sequence_model") for name in names), term


def test_the_posterior_is_sampled_inside_the_loss(loss: WorldModelLoss) -> None:
    records = random_records()
    one, two = loss(records)[1]["stoch"], loss(records)[1]["stoch"]
    assert not torch.equal(one, two)


def test_the_records_are_left_as_they_were(loss: WorldModelLoss) -> None:
    records = random_records()
    before = records.clone()
    loss(records)
    assert set(records.keys()) == set(before.keys())
    assert all(torch.equal(records[key], before[key]) for key in before.keys())


def test_weights_scale_their_terms_alone() -> None:
    world_model = make_tiny().agent.world_model

    def terms(**weights: float) -> dict[str, float]:
        torch.manual_seed(3)
        found, _ = WorldModelLoss(world_model, free_nats=0.0, **weights)(records)
        return {name: float(value.detach()) for name, value in found.items()}

    records = random_records()
    one = terms(beta_pred=1.0, beta_dyn=1.0, beta_rep=1.0)
    two = terms(beta_pred=2.0, beta_dyn=3.0, beta_rep=4.0)
    for name, times in {"recon": 2, "reward": 2, "cont": 2, "dyn": 3, "rep": 4}.items():
        assert two[f"loss_{name}"] == pytest.approx(times * one[f"loss_{name}"], rel=1e-4)
    assert two["kl"] == pytest.approx(one["kl"])


def test_out_keys_are_what_is_written(loss: WorldModelLoss) -> None:
    terms, posterior = loss(random_records())
    assert set(terms.keys()) == set(loss.out_keys)
    assert all(value.shape == () for value in terms.values())
    assert posterior["feat"].requires_grad


def test_a_key_that_no_loss_has_cannot_be_renamed(loss: WorldModelLoss) -> None:
    with pytest.raises(ValueError):
        loss.set_keys(nonsense="x")


@pytest.mark.parametrize("key", ["pixels", "prev_action", "is_first", "reward", "is_terminal"])
def test_a_missing_key_is_named_with_what_is_there(loss: WorldModelLoss, key: str) -> None:
    records = random_records().exclude(key)
    message = f"WorldModelLoss: the batch of records lacks .*{key}.*set_keys"
    with pytest.raises(KeyError, match=message):
        loss(records)


def test_beta_prior_adds_the_heads_loss_on_a_draw_of_the_prior() -> None:
    tiny = make_tiny("loss.world_model.beta_prior=2.0")
    world_model = tiny.agent.world_model
    with torch.no_grad():  # heads that say the same whatever they read
        for head in (world_model.reward, world_model.cont):
            for parameter in head.parameters():
                parameter.zero_()
    terms, _ = tiny.learner.world_model_loss(random_records())
    expected = 2.0 * float(terms["loss_reward"] + terms["loss_cont"])
    assert float(terms["loss_prior"]) == pytest.approx(expected, rel=1e-5)


def test_the_prior_term_teaches_the_prior_and_what_it_reads() -> None:
    tiny = make_tiny("loss.world_model.beta_prior=2.0")
    world_model = tiny.agent.world_model
    with torch.no_grad():
        for head in (world_model.reward, world_model.cont):
            for parameter in head.parameters():
                parameter.normal_(std=0.3)
    terms, _ = tiny.learner.world_model_loss(random_records())
    assert "loss_prior" in tiny.learner.world_model_loss.out_keys
    terms["loss_prior"].backward()
    reached = gradients(world_model)
    for part in ("rssm.prior", "rssm.sequence_model", "reward", "cont"):
        assert any(name.startswith(part) for name in reached), part
    assert not any(name.startswith("decoders") for name in reached)
