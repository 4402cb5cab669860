"""From actions to controller bytes, without an emulator: sticky actions by hand."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict

from mario_dreamer.envs.mario.buttons import PressButtons, uniform

ACTIONS = ("noop", "right", "right+A")  # the bytes 0, 128, 129


def press(transform: PressButtons, action: int, **root: object) -> TensorDict:
    """One env's step: the buttons it would play, as `action` of the result."""
    one_hot = torch.nn.functional.one_hot(torch.tensor([action]), len(ACTIONS))
    keys = {key: torch.tensor([[value]]) for key, value in root.items()}
    return transform._inv_call(TensorDict({"action": one_hot, **keys}, [1]))


def test_the_random_sequence_is_splitmix64() -> None:
    # The first numbers for the seed 1234567, as published with the algorithm's test programs.
    words = (6457827717110365317, 3203168211198807973, 9817491932198370423)
    drawn = uniform(torch.tensor([1234567]), torch.arange(3))
    assert drawn.tolist() == [(word >> 11) * 2.0**-53 for word in words]


def test_random_numbers_are_uniform_and_independent_of_batching() -> None:
    seeds = torch.arange(1000).unsqueeze(-1)
    drawn = uniform(seeds, torch.arange(40))
    assert drawn.shape == (1000, 40) and 0 <= drawn.min() and drawn.max() < 1
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.01)
    assert (drawn < 0.25).double().mean().item() == pytest.approx(0.25, abs=0.01)
    assert torch.equal(uniform(seeds[7:8], torch.arange(5, 9)), drawn[7:8, 5:9])


def test_without_stickiness_each_frame_has_the_chosen_buttons() -> None:
    played = press(PressButtons(ACTIONS, 4), 2)
    assert played["action"].tolist() == [[129] * 4] and played["action"].dtype == torch.int16


def test_sticky_frames_hold_the_old_buttons_until_the_change() -> None:
    transform, seen = PressButtons(ACTIONS, 4, sticky=0.5, show_executed=True), set()
    for step in range(60):
        root = {"held_action": 1, "step_count": step, "episode_seed": 5}
        played = press(transform, 2, **root)
        sticks = (uniform(torch.tensor([5]), 4 * step + torch.arange(4)) < 0.5).tolist()
        held = sticks.index(False) if False in sticks else 4
        assert played["action"].tolist() == [[128] * held + [129] * (4 - held)]
        after = transform._step(played, TensorDict({}, [1]))
        assert after["held_action"].item() == (1 if held == 4 else 2)
        # The chosen action if at least half of the frames used it.
        assert after["executed"].tolist() == [[0, 0, 1] if held <= 2 else [0, 1, 0]]
        seen.add(held)
    assert seen == {0, 1, 2, 3, 4}


def test_sticky_steps_hold_all_frames_or_none() -> None:
    transform, rows = PressButtons(ACTIONS, 4, sticky=0.5, sticky_unit="step"), set()
    for step in range(20):
        played = press(transform, 2, held_action=1, step_count=step, episode_seed=9)
        rows.add(tuple(played["action"][0].tolist()))
    assert rows == {(128,) * 4, (129,) * 4}


@pytest.mark.parametrize("unit, delay", [("frame", 1 / 3), ("step", 4 / 3)])
def test_the_mean_delay_of_a_change_is_that_of_the_unit(unit: str, delay: float) -> None:
    # sum over n of n * 0.25^n * 0.75 = 1/3 units; the change may take several steps.
    transform = PressButtons(ACTIONS, 4, sticky=0.25, sticky_unit=unit)
    total, episodes = 0, 3000
    seeds = torch.arange(episodes).unsqueeze(-1)
    held = torch.ones(episodes, 1, dtype=torch.int64)
    for step in range(12):
        root = TensorDict(
            action=torch.tensor([0, 0, 1]).expand(episodes, 3), held_action=held,
            step_count=torch.full_like(held, step), episode_seed=seeds, batch_size=[episodes],
        )  # fmt: skip
        played = transform._inv_call(root)
        total += (played["action"] == 128).sum().item()
        held = transform._step(played, TensorDict({}, [episodes]))["held_action"]
    assert total / episodes == pytest.approx(delay, rel=0.1)


def test_an_episode_begins_with_noop_held() -> None:
    for actions, first in ((ACTIONS, 0), (("right", "left"), 2)):
        transform = PressButtons(actions, 4, sticky=1.0)
        reset = transform._reset(TensorDict({}, [3]), TensorDict({}, [3]))
        assert reset["held_action"].tolist() == [[first]] * 3
        assert transform.bytes[first] == 0
