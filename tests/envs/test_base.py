"""What all envs share: checks of options, counting CPUs on any operating system."""

from __future__ import annotations

import os
from typing import Any

import psutil
import pytest
from hydra.utils import get_class

from mario_dreamer.envs.base import count_cpus
from mario_dreamer.envs.mario.make import make_mario_env


def test_a_reward_that_cannot_be_called_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"env\.reward: .* got 'package'"):
        make_mario_env(reward="package")


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
