"""Mario's reward, by hand."""

from __future__ import annotations

import pytest
import torch

from mario_dreamer.envs.mario.rewards import MarioReward


def pay(
    rules: MarioReward, dx: int = 0, ticks: int = 0, end: str = "", package: float = 0.0
) -> float:
    """One frame from x 100 and clock 300."""
    track = torch.tensor([[[100, 300], [100 + dx, 300 - ticks]]])
    flag, over = torch.tensor([[end == "flag"]]), torch.tensor([[bool(end)]])
    reward = rules(track, flag, over, torch.tensor([[package]]))
    assert reward.shape == (1, 1) and reward.dtype == torch.float32
    return reward.item()


def test_a_step_earns_the_sum_of_its_frames_in_every_env() -> None:
    x = [[40, 42, 45, 45, 1745], [40, 39, 41, 40, 43]]  # the last frame of env 0 is a warp
    clock = [[400, 400, 399, 399, 398], [400, 400, 400, 400, 400]]
    track = torch.tensor([x, clock]).permute(1, 2, 0)
    no, zero = torch.zeros(2, 1, dtype=torch.bool), torch.zeros(2, 1)
    paid = MarioReward()(track, no, no, zero).flatten().tolist()
    assert paid == pytest.approx([5 - 0.2, 5])
    both_ways = MarioReward(backward=True)(track, no, no, zero).flatten().tolist()
    assert both_ways == pytest.approx([5 - 0.2, 3])


def test_the_seed_reward_by_hand() -> None:
    rules = MarioReward()
    assert pay(rules, dx=3) == 3.0
    assert pay(rules, dx=-2) == 0.0
    assert pay(rules, ticks=1) == pytest.approx(-0.1)
    assert pay(rules, dx=6, end="flag") == 1006.0
    assert pay(rules, dx=1, ticks=1, end="death") == pytest.approx(1 - 0.1 - 15)


def test_backward_rewards_the_change_of_x() -> None:
    assert pay(MarioReward(backward=True), dx=-2) == -2.0


def test_a_pipe_gives_no_reward_in_either_direction() -> None:
    for rules in (MarioReward(), MarioReward(backward=True)):
        assert pay(rules, dx=1700) == 0.0
        assert pay(rules, dx=-897) == 0.0
        assert pay(rules, dx=16) == 16.0


def test_a_clock_that_is_set_again_costs_nothing() -> None:
    assert pay(MarioReward(), ticks=-100) == 0.0


def test_every_amount_is_an_option_and_scale_multiplies_all() -> None:
    rules = MarioReward(distance=2.0, flag=7.0, death=-3.0, time=-1.0, scale=0.5)
    assert pay(rules, dx=3, ticks=2, end="flag") == 0.5 * (6 - 2 + 7)
    assert pay(rules, end="death") == -1.5


def test_the_package_reward_is_passed_on() -> None:
    rules = MarioReward(kind="package", scale=2.0)
    assert pay(rules, dx=3, end="death", package=-15.0) == -30.0


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="env.reward.kind"):
        MarioReward(kind="score")
