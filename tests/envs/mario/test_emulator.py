"""Names of actions and stages, bad options, and a missing emulator."""

from __future__ import annotations

import sys

import pytest

from mario_dreamer.envs.mario.emulator import ACTION_SETS, actions_of, button_byte, parse_stage
from mario_dreamer.envs.mario.make import make_mario_env


def test_action_sets_have_five_seven_and_twelve_actions() -> None:
    sizes = {name: len(actions_of(name)) for name in ACTION_SETS}
    assert sizes == {"right_only": 5, "simple": 7, "complex": 12}


def test_button_bytes_by_hand() -> None:
    assert [button_byte(name) for name in ("noop", "right", "right+A", "right+A+B", "left")] == [
        0, 128, 129, 131, 64,
    ]  # fmt: skip


@pytest.mark.rom
def test_action_sets_are_the_package_own() -> None:
    theirs = pytest.importorskip("gym_super_mario_bros.actions")
    for name, actions in (
        ("right_only", theirs.RIGHT_ONLY),
        ("simple", theirs.SIMPLE_MOVEMENT),
        ("complex", theirs.COMPLEX_MOVEMENT),
    ):
        assert actions_of(name) == tuple("+".join(a).replace("NOOP", "noop") for a in actions)


def test_an_own_list_of_actions_is_accepted() -> None:
    assert actions_of(["noop", "down+B"]) == ("noop", "down+B")


@pytest.mark.parametrize("action_set", ["hard", [], ["right+X"], ["NOOP"]])
def test_unknown_actions_are_refused(action_set: object) -> None:
    with pytest.raises(ValueError, match="env.action_set"):
        actions_of(action_set)


def test_a_stage_is_world_and_number() -> None:
    assert parse_stage("8-4") == (8, 4)


@pytest.mark.parametrize("stage", ["0-1", "9-1", "1-5", "1", "1-1-1", "a-b", "", "1-2v"])
def test_stages_that_do_not_exist_are_refused(stage: str) -> None:
    with pytest.raises(ValueError, match='env.stage: got .* Set env.stage="1-1"'):
        parse_stage(stage)


def test_a_missing_emulator_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gym_super_mario_bros", None)
    for backend in ("batched", "serial", "parallel", "transformed"):
        with pytest.raises(ImportError, match="needs the emulator.*got Python.*pip install"):
            make_mario_env(num_envs=2, backend=backend)


@pytest.mark.parametrize(
    "options, named",
    [
        ({"backend": "fast"}, "env.backend"),
        ({"stage": "1-9"}, "env.stage"),
        ({"num_envs": 0}, "env.num_envs"),
        ({"action_repeat": 0}, "env.action_repeat"),
        ({"stall_limit": 0}, "env.stall_limit"),
        ({"max_steps": 0}, "env.max_steps"),
        ({"image_size": 4}, "env.image_size=64"),
        ({"crop_top": -1}, "env.crop_top"),
        ({"crop_top": 240}, "env.crop_top"),
        ({"sticky": 1.5}, "sticky"),
        ({"random_noops": -1}, "random_noops"),
        ({"sticky_unit": "second"}, "env.sticky_unit"),
        ({"stage_order": "backwards"}, "env.stage_order"),
        ({"death_screen": "red"}, "env.death_screen"),
        ({"stage": ["1-1", "1-5"]}, "env.stage"),
        ({"stage": []}, "env.stage"),
    ],
)
def test_bad_options_of_mario_are_refused(options: dict, named: str) -> None:
    with pytest.raises(ValueError, match=f"{named}.*got|got.*{named}"):
        make_mario_env(**options)
