from __future__ import annotations

import math

import pytest
import torch

from mario_dreamer.distributions import MSE, Bernoulli, SymlogMSE


def test_a_gray_guess_of_a_white_frame_costs_3072() -> None:
    gray = MSE(torch.full((2, 3, 64, 64), 0.5), event_dims=3)
    assert gray.log_prob(torch.ones(2, 3, 64, 64)).tolist() == [-3072.0, -3072.0]


def test_mse_sums_over_the_event_and_keeps_the_batch() -> None:
    loss = MSE(torch.zeros(4, 5, 2)).log_prob(torch.tensor([3.0, 4.0]).expand(4, 5, 2))
    assert loss.shape == (4, 5) and (loss == -25.0).all()


def test_mse_pulls_the_mean_with_twice_the_error() -> None:
    mean = torch.zeros(1, 2, requires_grad=True)
    MSE(mean).log_prob(torch.tensor([[3.0, -4.0]])).sum().backward()
    assert mean.grad.tolist() == [[6.0, -8.0]]


def test_symlog_mse_is_in_symlog_space_but_its_mean_is_not() -> None:
    dist = SymlogMSE(torch.tensor([[math.log(1001.0), 0.0]]))
    assert dist.mean[0, 0].item() == pytest.approx(1000.0, rel=1e-5)
    target = torch.tensor([[1000.0, math.e - 1]])
    assert dist.log_prob(target).item() == pytest.approx(-1.0, abs=1e-5)


def test_a_soft_label_is_likeliest_at_its_own_probability() -> None:
    label = 1 - 1 / 333
    logit = torch.tensor([[math.log(label / (1 - label))]], requires_grad=True)
    log_prob = Bernoulli(logit).log_prob(torch.tensor([[label]]))
    log_prob.sum().backward()
    assert log_prob.shape == (1,)
    assert logit.grad.item() == pytest.approx(0.0, abs=1e-6)
    assert Bernoulli(logit).mean.item() == pytest.approx(0.996996997, abs=1e-6)


def test_an_undecided_bernoulli_costs_log_two() -> None:
    coin = Bernoulli(torch.zeros(3, 1))
    assert coin.log_prob(torch.tensor([[0.0], [1.0], [0.3]])).tolist() == pytest.approx(
        [-math.log(2)] * 3
    )
    assert coin.entropy().tolist() == pytest.approx([math.log(2)] * 3)


def test_bernoulli_mode_and_samples_follow_the_logit() -> None:
    dist = Bernoulli(torch.tensor([[-30.0], [30.0]]))
    assert dist.mode.tolist() == dist.sample().tolist() == [[0.0], [1.0]]
    assert dist.log_prob(dist.mode).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_bernoulli_survives_extreme_logits() -> None:
    loss = Bernoulli(torch.tensor([[1e4]])).log_prob(torch.zeros(1, 1))
    assert loss.item() == -1e4


def test_the_squared_error_has_the_gradients_of_its_formula() -> None:
    torch.manual_seed(0)
    mean, x = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4, requires_grad=True)
    weight = torch.tensor([0.5, -2.0])
    plain = (-(mean - x).square().sum((-1, -2)) * weight).sum()
    ours = (MSE(mean, event_dims=2).log_prob(x) * weight).sum()
    torch.testing.assert_close(ours, plain)
    wanted = torch.autograd.grad(plain, [mean, x])
    for got, want in zip(torch.autograd.grad(ours, [mean, x]), wanted, strict=True):
        torch.testing.assert_close(got, want)
