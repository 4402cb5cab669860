"""What `mario-dreamer dream` shows begins with what the agent remembered there."""

from __future__ import annotations

import torch
from tiny import make_tiny

from mario_dreamer import keys
from mario_dreamer.commands.dream import record_windows


def test_a_window_in_mid_episode_begins_with_the_policys_state() -> None:
    tiny = make_tiny("env.length=40")
    windows = record_windows(tiny.policy, tiny.env, start=3, length=6, rows=2)
    assert windows.shape == (2, 6)
    assert not windows[keys.IS_FIRST].any()
    assert (windows[keys.PREV_DETER].abs().sum(-1) > 0).all()
    stoch = windows[keys.PREV_STOCH]
    assert stoch.shape[2:] == tiny.policy.world_model.rssm.stoch_shape
    assert torch.equal(stoch.sum(-1), torch.ones_like(stoch.sum(-1)))  # one class each
