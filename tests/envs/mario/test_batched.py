"""BatchedMario's threads: who steps which env, and what comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from unittest.mock import Mock

import pytest

from mario_dreamer.envs.mario import game
from mario_dreamer.envs.mario.batched import BatchedMario


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchedMario]:
    """An env whose emulators nobody plays."""
    monkeypatch.setattr(game, "make_emulator", lambda stage: Mock())
    env = BatchedMario(num_envs=2, threads=2)
    yield env
    env.close()


def test_results_come_in_the_order_of_the_envs(env: BatchedMario) -> None:
    assert env._each(lambda a, b: a * b, range(50), range(50)) == [i * i for i in range(50)]


def test_a_slow_env_delays_no_other(env: BatchedMario) -> None:
    """Env 0 ends only after all others: with envs dealt out in turn, 2 would wait for 0."""
    others, lock = set(range(1, 6)), threading.Lock()
    all_done = threading.Event()

    def task(env: int) -> bool:
        if env == 0:
            return all_done.wait(20)
        with lock:
            others.discard(env)
            if not others:
                all_done.set()
        return True

    assert all(env._each(task, range(6)))


def test_an_error_in_one_env_reaches_the_caller_at_the_end(
    env: BatchedMario,
) -> None:
    done = []

    def task(env: int) -> None:
        if env == 1:
            raise RuntimeError("env 1 broke")
        done.append(env)

    with pytest.raises(RuntimeError, match="env 1 broke"):
        env._each(task, range(6))
    assert sorted(done) == [0, 2, 3, 4, 5]


def test_no_rows_give_no_results(env: BatchedMario) -> None:
    assert env._each(lambda index: index, []) == []
