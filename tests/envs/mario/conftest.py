"""Emulators for the tests of a file: a start takes 0.3 s, a reset nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from mario_dreamer.envs.mario import game
from mario_dreamer.envs.mario.emulator import make_emulator


@pytest.fixture(scope="module")
def idle_emulators() -> dict[str, list[Any]]:
    """Keep the emulators, by stage, that no test plays."""
    return defaultdict(list)


@pytest.fixture(autouse=True)
def reused_emulators(
    idle_emulators: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Let the games of a test play the emulators that the tests before it have started."""
    taken = []

    def take(stage: str) -> Any:
        idle = idle_emulators[stage]
        emulator = idle.pop() if idle else make_emulator(stage)
        emulator.reset()
        emulator.close = lambda: None  # an env of an old test may be collected, and closed, late
        taken.append((stage, emulator))
        return emulator

    monkeypatch.setattr(game, "make_emulator", take)
    yield
    for stage, emulator in taken:
        idle_emulators[stage].append(emulator)
