"""BatchedMario's threads: who steps which world, and what comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from mario_dreamer.envs.mario.batched import BatchedMario

pytest.importorskip("gym_super_mario_bros", reason="needs the emulator, Python 3.13+")
pytestmark = pytest.mark.rom


@pytest.fixture(scope="module")
def env() -> Iterator[BatchedMario]:
    env = BatchedMario(num_envs=2, threads=2)
    yield env
    env.close()


def test_results_come_in_the_order_of_the_worlds_whoever_was_first(env: BatchedMario) -> None:
    assert env._each(lambda a, b: a * b, range(50), range(50)) == [i * i for i in range(50)]


def test_a_slow_world_holds_up_no_other(env: BatchedMario) -> None:
    """World 0 ends only after all others: with worlds dealt out in turn, 2 would wait for 0."""
    others, lock = set(range(1, 6)), threading.Lock()
    all_done = threading.Event()

    def task(world: int) -> bool:
        if world == 0:
            return all_done.wait(20)
        with lock:
            others.discard(world)
            if not others:
                all_done.set()
        return True

    assert all(env._each(task, range(6)))


def test_an_error_in_any_world_reaches_the_caller_after_all_threads_are_done(
    env: BatchedMario,
) -> None:
    done = []

    def task(world: int) -> None:
        if world == 1:
            raise RuntimeError("world 1 broke")
        done.append(world)

    with pytest.raises(RuntimeError, match="world 1 broke"):
        env._each(task, range(6))
    assert sorted(done) == [0, 2, 3, 4, 5]


def test_nothing_to_do_is_done_at_once(env: BatchedMario) -> None:
    assert env._each(lambda world: world, []) == []
