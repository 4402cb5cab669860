"""Mario's reward, by hand."""

from __future__ import annotations

import pytest

from mario_dreamer.envs.mario.rewards import MarioReward


def pay(
    rules: MarioReward, dx: int = 0, ticks: int = 0, end: str = "", package: float = 0.0
) -> float:
    """One frame from x 100 and clock 300."""
    before = {"x_pos": 100, "time": 300}
    after = {"x_pos": 100 + dx, "time": 300 - ticks, "flag_get": end == "flag"}
    return rules(before, after, bool(end), package)


def test_the_seed_reward_by_hand() -> None:
    rules = MarioReward()
    assert pay(rules, dx=3) == 3.0
    assert pay(rules, dx=-2) == 0.0
    assert pay(rules, ticks=1) == pytest.approx(-0.1)
    assert pay(rules, dx=6, end="flag") == 1006.0
    assert pay(rules, dx=1, ticks=1, end="death") == pytest.approx(1 - 0.1 - 15)


def test_backward_pays_the_change_of_x() -> None:
    assert pay(MarioReward(backward=True), dx=-2) == -2.0


def test_a_pipe_pays_nothing_in_either_direction() -> None:
    for rules in (MarioReward(), MarioReward(backward=True)):
        assert pay(rules, dx=1700) == 0.0
        assert pay(rules, dx=-897) == 0.0
        assert pay(rules, dx=16) == 16.0


def test_a_clock_that_is_set_anew_costs_nothing() -> None:
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
