"""Counts of the fuzzing, written at the end of a long run."""

from __future__ import annotations

import fuzzing
import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    if fuzzing.OUT and fuzzing.TALLIES:
        fuzzing.write_counts(fuzzing.OUT)
