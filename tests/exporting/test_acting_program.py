"""The acting program before it is exported; `test_exported_program.py` plays the file."""

from __future__ import annotations

import pytest
import tiny
import torch

from mario_dreamer.exporting.acting_program import ActingProgram
from mario_dreamer.exporting.program_file import example_inputs, picture_rules


@pytest.fixture(scope="module")
def agent() -> tiny.Tiny:
    return tiny.make_tiny()


def test_an_opening_frame_forgets_the_past(agent: tiny.Tiny) -> None:
    program = ActingProgram(agent.policy)
    inputs = example_inputs(program, {"pixels": (3, 16, 16)}, games=1)
    fresh = program(**inputs)
    haunted = program(**{**inputs, "deter": torch.ones(1, 16), "prev_action": torch.ones(1, 3)})
    assert torch.equal(fresh["deter"], haunted["deter"])
    later = {**inputs, "deter": torch.ones(1, 16), "is_first": torch.tensor([False])}
    assert not torch.equal(fresh["deter"], program(**later)["deter"])


def test_the_program_is_a_copy_that_learning_does_not_change(agent: tiny.Tiny) -> None:
    program = ActingProgram(agent.policy)
    before = next(program.policy.actor.parameters()).clone()
    with torch.no_grad():
        next(agent.agent.actor.parameters()).add_(1.0)
    assert torch.equal(before, next(program.policy.actor.parameters()))


def test_a_mario_card_says_how_a_screen_becomes_a_picture() -> None:
    env = {"stage": "1-2", "crop_top": 32, "max_pool": True, "action_repeat": 4}
    picture = picture_rules(env, (3, 64, 64))
    assert picture["screen"] == [240, 256, 3] and picture["size"] == [64, 64]
    assert picture["crop_top"] == 32 and picture["max_pool"] is True
