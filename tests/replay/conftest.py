"""A hand-made env for the replay tests: every frame knows its place."""

from __future__ import annotations

import pytest
from replay_checks import Counter


@pytest.fixture
def counter() -> type[Counter]:
    """Build a Counter."""
    return Counter
