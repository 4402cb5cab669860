from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch

from mario_dreamer.training.schedule import EntropySchedule, LoopState, UpdateRatio


def play(ratio: UpdateRatio, first: int, last: int, stride: int = 1) -> int:
    return sum(ratio.due(step) for step in range(first, last + 1, stride))


def test_the_seeds_ratio_is_one_update_per_agent_step() -> None:
    assert UpdateRatio(1024, 16, 64).updates_per_step == 1.0


def test_atari100k_makes_an_update_every_fourth_step() -> None:
    ratio = UpdateRatio(256, 16, 64)
    assert [ratio.due(step) for step in range(1, 10)] == [0, 0, 0, 0, 1, 0, 0, 0, 1]


def test_a_hundred_thousand_steps_of_the_seed_make_97500_updates() -> None:
    assert play(UpdateRatio(1024, 16, 64), 2500, 100_000) == 97_500


@pytest.mark.parametrize("prefill", [1, 2500, 10**6])
def test_the_prefill_owes_no_burst(prefill: int) -> None:
    ratio = UpdateRatio(1024, 16, 64)
    assert ratio.due(prefill) == 0
    assert ratio.due(prefill + 4) == 4


@pytest.mark.parametrize("train_ratio", [32, 100, 333, 7])
def test_fractions_are_carried_over_and_none_is_lost(train_ratio: int) -> None:
    ratio = UpdateRatio(train_ratio, 16, 32)
    total = play(ratio, 0, 512 * 50, stride=32)
    assert total == train_ratio * 50


def test_twice_the_updates_are_made_until_the_first_flag() -> None:
    ratio = UpdateRatio(32, 16, 16, before_flag=64)
    assert sum(ratio.due(step, flag=False) for step in range(0, 801, 32)) == 200
    assert sum(ratio.due(step, flag=True) for step in range(832, 1601, 32)) == 100


def test_a_resume_goes_on_in_mid_fraction_without_a_burst() -> None:
    whole = UpdateRatio(100, 16, 64)
    expected = [whole.due(step) for step in range(0, 400, 8)]
    first = UpdateRatio(100, 16, 64)
    found = [first.due(step) for step in range(0, 200, 8)]
    second = UpdateRatio(100, 16, 64)
    second.load_state_dict(first.state_dict())
    found += [second.due(step) for step in range(200, 400, 8)]
    assert found == expected


def due_steps(state: LoopState, interval: int, steps: Iterable[int]) -> list[int]:
    found = []
    for state.agent_steps in steps:
        if state.due("log", interval):
            found.append(state.agent_steps)
    return found


def test_what_happens_every_ten_steps_happens_once_per_ten() -> None:
    assert due_steps(LoopState(), 10, range(1, 35)) == [10, 20, 30]


def test_several_intervals_passed_at_once_count_as_one() -> None:
    assert due_steps(LoopState(), 10, (4, 38, 39, 40)) == [38, 40]


def test_an_interval_of_zero_means_never() -> None:
    assert due_steps(LoopState(), 0, range(1000)) == []


def test_a_resumed_loop_goes_on_in_mid_interval() -> None:
    state = LoopState(learning=True, pending=3)
    assert due_steps(state, 10, (4, 10, 14, 21)) == [10, 21]
    other = LoopState()
    other.load_state_dict(state.state_dict())
    assert other.learning and other.pending == 3 and other.last is not state.last
    other.begin(25, learning=False)
    assert other.learning and other.agent_steps == 25
    assert due_steps(other, 10, (25, 29, 33)) == [33]


@pytest.mark.parametrize(("success", "scale"), [(0.0, 1e-2), (0.5, 1e-3), (1.0, 1e-4)])
def test_entropy_falls_geometrically_with_success(success: float, scale: float) -> None:
    eta = torch.tensor(1e-2)
    EntropySchedule(eta, solved=1e-4).follow(success)
    assert float(eta) == pytest.approx(scale)
