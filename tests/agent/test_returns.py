from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from mario_dreamer.agent.distribution_module import DistributionModule
from mario_dreamer.agent.returns import Returns
from mario_dreamer.distributions.simple import MSE
from mario_dreamer.losses.targets import Discount, continuation_weights, lambda_return

GAMMA = 1 - 1 / 333


def column(*values: float) -> Tensor:
    return torch.tensor(values).unsqueeze(-1)


class ReadColumn(nn.Module):
    """A head that says what stands in one column of feat, times a weight of 1."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index, self.weight = index, nn.Parameter(torch.ones(()))

    def forward(self, feat: Tensor) -> Tensor:
        return feat[..., self.index : self.index + 1] * self.weight

    def dist(self, params: Tensor) -> MSE:
        return MSE(params)


def make_returns(**options: object) -> Returns:
    heads = {
        name: DistributionModule(ReadColumn(index), ["feat"], key)
        for index, (name, key) in enumerate(
            {"reward": "reward", "cont": "cont", "critic": "value"}.items()
        )
    }
    return Returns(**heads, **options)


def dream(reward: Tensor, cont: Tensor, value: Tensor) -> TensorDict:
    feat = torch.cat([reward, cont, value], -1)
    return TensorDict(feat=feat.unsqueeze(0) if feat.ndim == 2 else feat, batch_size=[1])


REWARD, BOOT = column(9.0, 1.0, 2.0, 3.0), column(5.0, 10.0, 20.0, 30.0)


def test_returns_without_an_end_mix_all_horizons() -> None:
    found = lambda_return(REWARD, BOOT, torch.full((4, 1), 0.9), None, 0.5)
    # 3 + .9 * 30 = 30;  2 + .9 * (.5 * 20 + .5 * 30) = 24.5;  1 + .9 * (.5 * 10 + .5 * 24.5)
    torch.testing.assert_close(found, column(16.525, 24.5, 30.0))


def test_other_shapes_than_steps_by_one_are_refused() -> None:
    square = torch.ones(4, 4)  # [B, T]: it would be read as T steps of B returns
    with pytest.raises(ValueError, match=r"lambda_return: reward must be \[T\+1=4, 1\]"):
        lambda_return(square, square, square, None, 0.5)
    with pytest.raises(TypeError, match="discount must be a tensor .*; got a float"):
        lambda_return(REWARD, BOOT, 0.9, None, 0.5)
    flat = torch.zeros(4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"is_last must be \[T\+1=4, 1\]"):
        lambda_return(REWARD, BOOT, torch.ones(4, 1), flat, 0.5)


def test_a_terminal_step_bootstraps_from_nothing() -> None:
    discount = 0.9 * column(1.0, 1.0, 0.0, 1.0)
    is_last = column(0.0, 0.0, 1.0, 0.0).bool()
    found = lambda_return(REWARD, BOOT, discount, is_last, 0.5)
    torch.testing.assert_close(found, column(6.4, 2.0, 30.0))


def test_a_cut_episode_bootstraps_from_its_own_last_value() -> None:
    is_last = column(0.0, 0.0, 1.0, 0.0).bool()
    found = lambda_return(REWARD, BOOT, torch.full((4, 1), 0.9), is_last, 0.5)
    torch.testing.assert_close(found, column(14.5, 20.0, 30.0))


def test_returns_with_a_learned_discount_are_the_golden_ones() -> None:
    reward, value = column(0.0, 1.0, 1.0, 1.0), torch.full((4, 1), 2.0)
    found = lambda_return(reward, value, torch.full((4, 1), GAMMA), None, 0.95)
    torch.testing.assert_close(found, column(4.827152, 3.935453, 2.993994), atol=2e-6, rtol=0)


def test_the_first_reward_is_not_used() -> None:
    one = lambda_return(REWARD, BOOT, torch.full((4, 1), 0.9), None, 0.5)
    changed = REWARD.clone()
    changed[0] = -1e6
    assert torch.equal(one, lambda_return(changed, BOOT, torch.full((4, 1), 0.9), None, 0.5))


def test_lambda_return_agrees_with_a_slow_loop() -> None:
    shape = (4, 7, 1)
    reward, value = torch.randn(shape), torch.randn(shape)
    discount, last = torch.rand(shape), torch.rand(shape) < 0.3
    found = lambda_return(reward, value, discount, last, 0.8)
    for b in range(4):
        expected = float(value[b, -1])
        for t in range(5, -1, -1):
            k = 0.0 if last[b, t + 1] else 0.8
            after = (1 - k) * float(value[b, t + 1]) + k * expected
            expected = float(reward[b, t + 1]) + float(discount[b, t + 1]) * after
            assert float(found[b, t]) == pytest.approx(expected, abs=1e-5)


def test_weights_are_the_running_product_of_continues() -> None:
    discount = torch.full((4, 1), GAMMA)
    found = continuation_weights(discount, discount[0])
    torch.testing.assert_close(found, column(0.996997, 0.994003, 0.991018, 0.988042))
    seed = continuation_weights(column(0.3, 0.5, 0.5, 0.0), torch.ones(1))
    torch.testing.assert_close(seed, column(1.0, 0.5, 0.25, 0.0))


def test_the_continue_head_learns_death_but_not_time_limits() -> None:
    is_terminal = torch.tensor([[True], [False]])  # death; a time limit is not terminal
    torch.testing.assert_close(Discount().cont_target(is_terminal), column(0.0, GAMMA))
    hard = Discount(0.997, learned=False)
    torch.testing.assert_close(hard.cont_target(is_terminal), column(0.0, 1.0))


def test_the_discount_is_applied_exactly_once() -> None:
    cont = column(0.5)
    assert torch.equal(Discount(0.9, learned=True).per_step(cont), cont)
    torch.testing.assert_close(Discount(0.9, learned=False).per_step(cont), column(0.45))


@pytest.mark.parametrize("gamma", [0.0, -0.1, 1.5])
def test_a_discount_outside_0_to_1_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match="gamma"):
        Discount(gamma)


def test_returns_of_a_rollout_are_the_golden_numbers() -> None:
    cont = torch.full((4, 1), GAMMA)
    found = make_returns()(dream(column(7.0, 1.0, 1.0, 1.0), cont, torch.full((4, 1), 2.0)))
    torch.testing.assert_close(
        found["lambda_return"][0], column(4.827152, 3.935453, 2.993994), atol=2e-6, rtol=0
    )
    weights = column(0.996997, 0.994003, 0.991018, 0.988042)
    torch.testing.assert_close(found["weight"][0], weights)
    torch.testing.assert_close(found["advantage"][0], found["lambda_return"][0] - 2.0)


def test_gamma_multiplies_an_undiscounted_continue_head() -> None:
    options = {"discount": Discount(GAMMA, learned=False)}
    rollouts = (column(7.0, 1.0, 1.0, 1.0), torch.ones(4, 1), torch.full((4, 1), 2.0))
    found = make_returns(**options)(dream(*rollouts))
    torch.testing.assert_close(
        found["lambda_return"][0], column(4.827152, 3.935453, 2.993994), atol=2e-6, rtol=0
    )
    # w_0 = c_0 and not gamma * c_0: gamma counts steps taken, and none has been taken yet.
    assert float(found["weight"][0, 0]) == 1.0
    torch.testing.assert_close(found["weight"][0, 1], torch.tensor([GAMMA]))


def test_rollouts_from_terminal_states_weigh_nothing_by_default() -> None:
    cont = column(0.0, 1.0, 1.0)
    rollouts = dream(torch.ones(3, 1), cont, torch.ones(3, 1))
    assert float(make_returns()(rollouts.clone())["weight"].sum()) == 0.0
    found = make_returns(alive_start=False)(rollouts.clone())["weight"]
    assert found.flatten().tolist() == [1.0, 1.0, 1.0]


def test_paper_v1_begins_with_the_recorded_end() -> None:
    cont = torch.full((2, 3, 1), 0.5)
    rollouts = TensorDict(
        feat=dream(torch.ones(3, 1), cont[0], torch.ones(3, 1))["feat"].expand(2, -1, -1).clone(),
        is_terminal=torch.tensor([[True], [False]]), batch_size=[2],
    )  # fmt: skip
    weight = make_returns(alive_start=False)(rollouts)["weight"][..., 0]
    assert weight[0].tolist() == [0.0, 0.0, 0.0]  # w_0 = 1 - is_terminal
    assert float(weight[1, 0]) == 1.0 and bool((weight[1, 1:] > 0).all())
    rollouts["is_terminal"] = rollouts["is_terminal"].float()
    with pytest.raises(ValueError, match=r"is_terminal must be \[2, 1\] \(bool\)"):
        make_returns(alive_start=False)(rollouts)


def test_the_return_range_is_a_running_average_of_rate_0_01() -> None:
    norm = make_returns().norm
    returns = torch.linspace(0, 100, 10_001).unsqueeze(-1)
    for updates in range(1, 61):
        norm.update(returns)
        expected = 90 * (1 - 0.99**updates)
        found = float(norm.high - norm.low)
        assert found == pytest.approx(expected, rel=1e-4)
        assert float(norm.scale()) == pytest.approx(max(1.0, expected), rel=1e-4)
    assert float(norm.scale()) > 40


def test_small_returns_are_never_blown_up() -> None:
    norm = make_returns().norm
    for _ in range(500):
        norm.update(torch.linspace(0, 0.5, 101).unsqueeze(-1))
    assert float(norm.scale()) == 1.0


def test_the_return_range_is_updated_before_its_use() -> None:
    reward = torch.linspace(0, 100_000, 1001).reshape(1, -1, 1)
    rollouts = dream(reward, torch.zeros(1, 1001, 1), torch.zeros(1, 1001, 1))
    found = make_returns()(rollouts, update_range=True)
    returns = found["lambda_return"].flatten()
    spread = 0.01 * float(torch.quantile(returns, 0.95) - torch.quantile(returns, 0.05))
    assert spread > 100
    torch.testing.assert_close(found["advantage"].flatten(), returns / spread)


def test_the_range_changes_only_when_training_asks_for_it() -> None:
    returns = make_returns()
    rollouts = dream(torch.full((3, 1), 1e4), torch.ones(3, 1), torch.ones(3, 1))
    returns(rollouts.clone())
    assert float(returns.norm.high) == 0.0
    returns(rollouts.clone(), update_range=True)
    assert float(returns.norm.high) > 0.0


def test_without_normalisation_advantages_are_plain_differences() -> None:
    returns = make_returns(normalize=False)
    assert returns.norm is None
    found = returns(dream(torch.full((3, 1), 1e4), torch.ones(3, 1), torch.ones(3, 1)))
    torch.testing.assert_close(found["advantage"], found["lambda_return"] - 1.0)


def test_only_what_the_critic_said_carries_a_gradient() -> None:
    found = make_returns()(dream(torch.randn(3, 1), torch.rand(3, 1), torch.randn(3, 1)))
    carries = {key for key in found.keys() if found[key].requires_grad}
    assert carries == {"value", "value_params"}
