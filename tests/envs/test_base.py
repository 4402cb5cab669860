"""What all envs share: counting CPUs on any operating system."""

from __future__ import annotations

import os

import psutil
import pytest

from mario_dreamer.envs.base import count_cpus


def test_cpus_are_counted_without_unix_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = count_cpus()
    assert 1 <= expected <= (os.cpu_count() or 1)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)  # Python 3.12
    assert count_cpus() == expected
    monkeypatch.delattr(psutil.Process, "cpu_affinity", raising=False)  # macOS
    assert count_cpus() == os.cpu_count()
