"""What `mario-dreamer dream` shows begins with what the agent remembered there."""

from __future__ import annotations

import pytest
import torch
from tiny import make_tiny

from mario_dreamer import keys
from mario_dreamer.commands.dream import record_windows, why_no_pictures
from mario_dreamer.envs.base import EnvFailed, close_env
from mario_dreamer.envs.torchrl import check_contract


def test_a_window_in_mid_episode_begins_with_the_policys_state() -> None:
    tiny = make_tiny("env.length=40")
    windows = record_windows(tiny.policy, tiny.env, start=3, length=6, rows=2)
    assert windows.shape == (2, 6)
    assert not windows[keys.IS_FIRST].any()
    assert (windows[keys.PREV_DETER].abs().sum(-1) > 0).all()
    stoch = windows[keys.PREV_STOCH]
    assert stoch.shape[2:] == tiny.policy.world_model.rssm.stoch_shape
    assert torch.equal(stoch.sum(-1), torch.ones_like(stoch.sum(-1)))  # one class each


def test_an_env_that_raises_is_named_as_what_failed() -> None:
    tiny = make_tiny("env.length=40")
    tiny.env.base_env._advance = lambda action: 1 / 0
    with pytest.raises(EnvFailed, match="the environment failed: ZeroDivisionError: division"):
        record_windows(tiny.policy, tiny.env, start=3, length=6, rows=2)


def test_an_env_that_cannot_be_closed_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    tiny = make_tiny()
    tiny.env.close = lambda: 1 / 0
    close_env(tiny.env)
    assert "could not be closed: ZeroDivisionError: division by zero" in caplog.text


def test_the_first_step_of_a_foreign_env_that_raises_is_named() -> None:
    tiny = make_tiny()
    tiny.env.base_env._begin = lambda mask: 1 / 0
    with pytest.raises(EnvFailed, match="the environment failed: ZeroDivisionError"):
        check_contract(tiny.env)


@pytest.mark.parametrize(
    ("options", "switch"),
    [({"from_render": False, "pixels": None}, "env.from_render=true"),
     ({"task": "walker_walk", "pixels": False}, "env.pixels=true"), ({"task": "mine"}, None)],
)  # fmt: skip
def test_only_a_switch_that_the_env_has_is_advised(
    options: dict[str, object], switch: str | None
) -> None:
    said = why_no_pictures(options)
    assert ("env." in said) == (switch is not None) and (switch or "render()") in said


def test_rows_are_of_different_envs() -> None:
    tiny = make_tiny("env.length=400")
    windows = record_windows(tiny.policy, tiny.env, start=3, length=8, rows=2)
    assert not torch.equal(windows[0, :4, ...][keys.PREV_DETER], windows[1, :4, ...][keys.PREV_DETER])
    # Of one env, the second row would be the first one two records later.
    assert not torch.equal(windows[0, 2:][keys.PREV_DETER], windows[1, :-2][keys.PREV_DETER])
