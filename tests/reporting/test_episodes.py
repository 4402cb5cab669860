"""Report of a tiny agent in the counting env, where x_t = t and r_t = 10 t."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import Tiny, make_tiny

from mario_dreamer import keys
from mario_dreamer.reporting.agent_sections import add_agent
from mario_dreamer.reporting.calibration import Pairs, discounted_returns, reward_pairs, value_pairs
from mario_dreamer.reporting.episodes import (
    Watched,
    effective_classes,
    live_classes,
    usage,
    watch,
)
from mario_dreamer.reporting.open_loop import cut_windows, foresee, mean_by_horizon
from mario_dreamer.reporting.page import Page


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    return make_tiny("env.length=6")


State = dict[tuple[str, str], torch.Tensor]


def state_of(tiny: Tiny) -> State:
    """Copy all that training changes."""
    parts = {"modules": tiny.learner.modules, "returns": tiny.learner.returns}
    return {
        (name, key): value.clone()
        for name, part in parts.items()
        for key, value in part.state_dict().items()
    }


@pytest.fixture(scope="module")
def fresh(tiny: Tiny) -> State:
    """Keep the state from before any report."""
    return state_of(tiny)


@pytest.fixture(scope="module")
def watched(tiny: Tiny, fresh: State) -> list[Watched]:
    return watch(tiny.policy, tiny.env, tiny.learner, 3)


@pytest.fixture(scope="module")
def report(tiny: Tiny, watched: list[Watched]) -> tuple[str, dict[str, float]]:
    """Write the agent's sections; return the page and the numbers."""
    page = Page("tiny")
    numbers = add_agent(page, watched, tiny.learner, horizon=4, gamma=0.9)
    return page.html(), numbers


def test_returns_by_hand() -> None:
    reward = torch.tensor([99.0, 1.0, 2.0, 4.0])  # r_0 arrived before: it does not count
    assert discounted_returns(reward, 0.5).tolist() == [1 + 1 + 1, 2 + 2, 4]
    assert discounted_returns(reward, 0.5, bootstrap=8.0).tolist() == [4, 6, 8]


def test_an_episode_of_n_steps_is_seen_in_n_plus_one_frames(watched: list[Watched]) -> None:
    for seen in watched:
        assert len(seen.records) == len(seen.states) == 7
        assert seen.records[keys.PIXELS][:, 0, 5, 5].tolist() == list(range(7))
        assert seen.records[keys.REWARD].flatten().tolist() == [0, 10, 20, 30, 40, 50, 60]


def test_values_are_compared_with_returns_rewards_with_rewards(
    watched: list[Watched],
) -> None:
    values, rewards = value_pairs(watched, 1.0), reward_pairs(watched)
    assert values.real == [210, 200, 180, 150, 110, 60] * 3
    assert rewards.real == [10, 20, 30, 40, 50, 60] * 3
    assert values.cut == 0
    shown = [float(seen.states["value_mean"][0]) for seen in watched]
    assert values.predicted[::6] == shown


def test_a_cut_episode_goes_on_with_the_critics_word() -> None:
    tiny = make_tiny("env.length=4", "env.ending=truncated")
    seen = watch(tiny.policy, tiny.env, tiny.learner, 2)
    pairs = value_pairs(seen, 1.0)
    assert pairs.cut == 2
    last = float(seen[0].states["value_mean"][-1])
    assert pairs.real[3] == pytest.approx(40 + last)


def test_pairs_know_bias_error_and_correlation() -> None:
    pairs = Pairs([1.0, 2.0, 3.0], [0.0, 2.0, 4.0])
    assert pairs.bias == 0.0 and pairs.correlation == pytest.approx(1.0)
    assert pairs.error == pytest.approx(math.sqrt(2 / 3))
    assert math.isnan(Pairs([1.0, 1.0], [0.0, 2.0]).correlation)


def test_horizons_that_no_window_reaches_do_not_count() -> None:
    errors = torch.tensor([[1.0, 3.0, 100.0], [3.0, 100.0, 100.0]])
    means, count = mean_by_horizon(errors, torch.tensor([2, 1]))
    assert means[:2].tolist() == [2.0, 3.0] and math.isnan(float(means[2]))
    assert count.tolist() == [2, 1, 0]


def test_windows_stay_inside_their_episode() -> None:
    cuts = cut_windows([7, 2, 1], horizon=4, count=99)
    assert cuts == [(0, 0, 5), (0, 1, 6), (0, 2, 7), (1, 0, 2)]
    assert cut_windows([7], 4, 2) == [(0, 0, 5), (0, 2, 7)]


def test_the_guess_to_beat_is_the_last_frame_again(tiny: Tiny, watched: list[Watched]) -> None:
    found = foresee(watched, tiny.learner, horizon=3, count=4)
    assert found is not None and found.dreamed.shape == (3,)
    assert found.windows.tolist() == [4, 4, 4]
    # most pixels count up by one shade a step, so k steps later they are off by k shades
    rise = found.repeated.sqrt() * 255
    assert rise[0] == pytest.approx(1.0, abs=0.25)
    assert found.repeated[2] > found.repeated[1] > found.repeated[0]
    assert bool(torch.isfinite(found.dreamed).all() and torch.isfinite(found.redrawn).all())


def test_imagination_starts_from_the_posterior(tiny: Tiny, watched: list[Watched]) -> None:
    found = foresee(watched[:1], tiny.learner, horizon=5, count=1)
    shades = (found.truth[:, 0, 5, 5] * 255).round().tolist()
    assert shades == [0, 1, 2, 3, 4, 5]


def test_live_classes_are_those_taken_now_and_then(tiny: Tiny, watched: list[Watched]) -> None:
    shares = torch.tensor([[0.5, 0.495, 0.005], [1.0, 0.0, 0.0]])
    assert live_classes(shares) == 3
    assert effective_classes(shares)[1] == 1.0
    found = usage(watched, tiny.learner.world_model.rssm)
    assert found.shape == (3, 4)
    assert found.sum(-1).tolist() == pytest.approx([1.0, 1.0, 1.0], abs=1e-5)


def test_the_agents_sections_hold_every_picture(report: tuple[str, dict[str, float]]) -> None:
    text, numbers = report
    for words in (
        "Calibration",
        "Open-loop prediction",
        "Latent usage",
        "classes live",
        "reward head",
    ):
        assert words in text
    assert numbers["return"] == 210.0 and 0 < numbers["open_loop_error"] < 1
    assert text.count("ealthy") >= 4, "each section says whether what it shows is healthy"


@pytest.mark.usefixtures("report")
def test_a_report_changes_nothing_that_training_changes(tiny: Tiny, fresh: State) -> None:
    assert any(name == "returns" for name, _ in fresh)
    after = state_of(tiny)
    assert all(torch.equal(value, after[name]) for name, value in fresh.items())
