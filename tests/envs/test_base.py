"""What all envs share: checks of options, counting CPUs on any operating system."""

from __future__ import annotations

import os
from typing import Any

import psutil
import pytest
from hydra.utils import get_class, get_method

from mario_dreamer.envs.base import count_cpus

MAKERS = [
    "atari.make_atari_env", "crafter.make_crafter_env", "dmc.make_dmc_env", "mario.make.make_mario_env",
    "minigrid.make_minigrid_env", "toy.corridor.make_toy_env", "toy.counting.make_counting_env",
    "toy.probes.make_delayed_env", "toy.probes.make_memory_env",
]  # fmt: skip


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    "option", [{"num_envs": 1.5}, {"num_envs": "2"}, {"num_envs": True}, {"seed": None}]
)
def test_every_maker_refuses_another_type_at_once(maker: str, option: dict[str, Any]) -> None:
    ((name, value),) = option.items()
    with pytest.raises(ValueError, match=rf"^env\.{name}: got {value!r}, expected int\.$"):
        get_method(f"mario_dreamer.envs.{maker}")(**option)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({"reward": "package"}, r"MarioReward \| Callable"), ({"sticky": float("nan")}, "float"),
        ({"stage": ["1-1", 5]}, r"str \| Sequence"), ({"grayscale": 1}, "bool"),
        ({"max_steps": 2.5}, r"int \| None"), ({"image_size": "64"}, "int"),
    ],
)  # fmt: skip
def test_mario_refuses_options_of_another_type(option: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=f"^env.{next(iter(option))}: got .*, expected {expected}"):
        get_method("mario_dreamer.envs.mario.make.make_mario_env")(**option)


@pytest.mark.parametrize(
    ("where", "option"),
    [
        ("mario.rewards.MarioReward", {"death": 15.0}), ("mario.rewards.MarioReward", {"time": 0.1}),
        ("mario.rewards.MarioReward", {"warp": -1}), ("toy.counting.CountingEnv", {"num_actions": 0}),
        ("toy.counting.CountingEnv", {"image_size": 1}),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(where: str, option: dict[str, Any]) -> None:
    ((name, value),) = option.items()
    with pytest.raises(ValueError, match=f"env.*{name}.*got .*{value}"):
        get_class(f"mario_dreamer.envs.{where}")(**option)


def test_cpus_are_counted_without_unix_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = count_cpus()
    assert 1 <= expected <= (os.cpu_count() or 1)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)  # Python 3.12
    assert count_cpus() == expected
    monkeypatch.delattr(psutil.Process, "cpu_affinity", raising=False)  # macOS
    assert count_cpus() == os.cpu_count()
