"""Collection in other processes: ages, replacements, streams."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict
from tiny import make_loop, make_tiny
from torch import nn

from mario_dreamer.config import compose, workers
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.distributed import Processes
from mario_dreamer.training.loop import train
from mario_dreamer.training.worker import ActingPolicy
from mario_dreamer.training.workers import WorkerCollector

OPTIONS = {"max_policy_age": 12, "weights_every": 1, "wait": 0.6, "updates_per_batch": 2}


class Fake:
    """A TorchRL collector of two envs and three steps, which can be slow or broken."""

    def __init__(self, before: Callable[[int], None] = lambda batch: None) -> None:
        self.before, self.uniform, self.version = before, [], 0

    def update_policy_weights_(self, weights: TensorDict) -> None:
        self.version = int(weights["version"])
        self.uniform.append(bool(weights["uniform"]))

    def __iter__(self) -> Iterator[TensorDict]:
        for batch in range(1000):
            self.before(batch)
            version = torch.full((1, 2, 3, 1), self.version)
            number = torch.full((1, 2, 3, 1), batch)
            yield TensorDict({"policy_version": version, "number": number}, [1, 2, 3])

    def shutdown(self, timeout: float) -> None:
        pass


class Learner:
    """Counts updates as one that makes all that each batch earns."""

    def __init__(self, make: Callable, count: int = 2, **options: float) -> None:
        self.updates = 0
        self.policy = nn.Linear(1, 1)
        self.policy.uniform = True
        streams = list(torch.arange(2 * count).reshape(count, 2))
        self.collector = WorkerCollector(
            make, streams, self.policy, lambda: self.updates, **(OPTIONS | options)
        )

    def turn(self) -> TensorDict:
        batch = next(iter(self.collector))
        self.updates += 2
        return batch


def slow(seconds: float) -> Callable[[int], None]:
    return lambda batch: time.sleep(seconds)


def test_no_weights_older_than_the_limit_reach_replay() -> None:
    learner = Learner(lambda number, life: Fake(slow(0.1 if number else 0.0)))
    ages = []
    for _ in range(60):
        before = learner.updates
        batch = learner.turn()
        ages.append(before - int(batch["policy_version"].min()))
    learner.collector.shutdown()
    assert 4 <= max(ages) <= 12
    assert float(learner.collector.policy_age) == max(ages)


def test_batches_name_their_streams() -> None:
    learner = Learner(lambda number, life: Fake(slow(0.01)))
    seen = {tuple(learner.turn()["stream"][:, 0].tolist()) for _ in range(12)}
    learner.collector.shutdown()
    assert seen == {(0, 1), (2, 3)}


def test_a_worker_that_breaks_again_and_again_is_given_up() -> None:
    make = lambda number, life: Fake(slow(0.01) if not number else lambda batch: 1 // (batch < 2))  # noqa: E731
    learner = Learner(make)
    with pytest.raises(ChildProcessError, match=r"worker 1 failed .Zero.*; its last 5 lives were"):
        [learner.turn() for _ in range(2000)]
    learner.collector.shutdown()


def test_a_broken_worker_is_replaced_and_its_streams_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def break_once(batch: int) -> None:
        if batch == 2:
            raise OSError("gone")

    lives = []

    def make(number: int, life: int) -> Fake:
        lives.append((number, life))
        return Fake(break_once if (number, life) == (1, 0) else slow(0.01))

    learner = Learner(make)
    batches = [learner.turn() for _ in range(20)]
    learner.collector.shutdown()
    assert sorted(lives) == [(0, 0), (1, 0), (1, 1)]
    assert caplog.text.count("worker 1 failed (OSError: gone) and is replaced") == 1
    own = [int(b["number"][0, 0]) for b in batches if int(b["stream"][0, 0]) == 2]
    assert own[:4] == [0, 1, 0, 1], "what was played before is there"


def test_a_worker_may_fail_once_more_before_it_plays_again() -> None:
    """When a machine is lost, the first in its place may be sent to that machine still."""

    def make(number: int, life: int) -> Fake:
        def fail(batch: int) -> None:
            if life == 1 or (life == 0 and batch == 2):
                raise OSError("gone")

        return Fake(fail)

    learner = Learner(make, count=1)
    numbers = [int(learner.turn()["number"][0, 0]) for _ in range(6)]
    learner.collector.shutdown()
    assert numbers[:4] == [0, 1, 0, 1]


def test_a_silent_worker_is_replaced_after_the_stated_time() -> None:
    stuck = threading.Event()

    def make(number: int, life: int) -> Fake:
        return Fake(lambda batch: stuck.wait(20) if batch == 2 and not life else None)

    learner = Learner(make, count=1)
    learner.turn()
    learner.turn()
    began = time.monotonic()
    assert int(learner.turn()["number"][0, 0]) == 0
    assert 0.5 < time.monotonic() - began < 3
    stuck.set()
    learner.collector.shutdown()


def test_a_worker_that_hangs_while_it_starts_is_replaced_though_others_play(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mario_dreamer.training.workers.START", 0.7)
    stuck = threading.Event()

    def make(number: int, life: int) -> Fake:
        if number == 1 and not life:
            stuck.wait(20)
        return Fake(slow(0.05))

    learner, seen, end = Learner(make), set(), time.monotonic() + 10
    while len(seen) < 4 and time.monotonic() < end:
        seen |= set(learner.turn()["stream"][:, 0].tolist())
    stuck.set()
    learner.collector.shutdown()
    assert seen == {0, 1, 2, 3}
    assert caplog.text.count("worker 1 did not answer for 0.7 s and is replaced") == 1


def test_a_worker_that_never_plays_ends_the_run_with_its_reason() -> None:
    def make(number: int, life: int) -> Fake:
        raise RuntimeError("Worker 0 failed to initialize")  # TorchRL's own number, of one process

    learner = Learner(make, count=1)
    line = "worker 0 failed .RuntimeError: failed to initialize., and so"
    with pytest.raises(ChildProcessError, match=line):
        learner.turn()


def test_ctrl_c_ends_a_run_whose_worker_never_starts(tmp_path: Path) -> None:
    stuck = threading.Event()

    def make(number: int, life: int) -> Fake:
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)
        stuck.wait(20)
        return Fake()

    _, parts, run = make_loop(tmp_path)
    began = time.monotonic()
    parts = dataclasses.replace(parts, collector=Learner(make, count=1).collector)
    assert train(parts, run) == "KILLED"
    stuck.set()
    parts.collector.shutdown()
    assert time.monotonic() - began < 5
    assert (parts.state.stopped, parts.state.agent_steps) == ("SIGINT", 0)
    assert Checkpoints(tmp_path).latest().name == "step_000000000"


def test_processes_of_a_worker_that_never_starts_are_killed() -> None:
    begun: queue.SimpleQueue = queue.SimpleQueue()

    def make(number: int, life: int) -> Fake:
        process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
        process.start()
        begun.put(process)
        process.join()
        raise EOFError

    learner = Learner(make, count=1)
    iter(learner.collector)
    process = begun.get(timeout=20)
    learner.collector.shutdown()
    assert not process.is_alive()


def test_workers_learn_when_the_random_prefill_ends() -> None:
    fake = Fake()
    learner = Learner(lambda number, life: fake, count=1)
    learner.turn()
    learner.policy.uniform, learner.updates = False, 0
    learner.turn()
    learner.turn()
    learner.collector.shutdown()
    assert fake.uniform[0] is True and fake.uniform[-1] is False


def test_workers_start_with_the_weights_that_a_resume_put_back() -> None:
    learner = Learner(lambda number, life: Fake(), count=1)
    learner.updates = 40
    assert int(learner.turn()["policy_version"].min()) == 40
    learner.collector.shutdown()


def test_an_age_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(ValueError, match="max_policy_age=6 is too low: .* set it to 7 or more"):
        Learner(lambda number, life: Fake(), max_policy_age=6)


def test_the_acting_copy_notes_the_version_of_its_weights() -> None:
    tiny = make_tiny()
    acting = ActingPolicy(tiny.policy)
    weights = TensorDict.from_module(acting).data.clone()
    acting.version.fill_(5)
    root = tiny.env.reset()
    assert acting(root.clone())["policy_version"].tolist() == [[5], [5]]
    assert weights["policy", "actor"].keys() == TensorDict.from_module(tiny.policy)["actor"].keys()


def test_bad_choices_of_workers_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = make_tiny("collector=process", "collector.num_envs=3", "train_ratio=3")
    parts = (tiny.policy, tiny.learner, workers.UpdateRatio(3, 3, 5), Processes(), 0, Path())
    with pytest.raises(ValueError, match="num_envs=3 cannot be shared equally by .*workers=2"):
        workers.make_workers(tiny.cfg, *parts)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"collector=ray needs .*mario_dreamer\[ray\]"):
        workers.make_workers(compose.compose_default(["collector=ray"]), *parts)
    waits = lambda **_: pytest.fail("Ray itself tries for minutes")  # noqa: E731
    ray = SimpleNamespace(is_initialized=lambda: False, init=waits)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(ConnectionError, match="no Ray cluster at .*=127.0.0.1:1 .*refused"):
        workers._connect("127.0.0.1:1")
    several = (*parts[:3], Processes(), 0, Path())
    several[3].size = 2
    with pytest.raises(ValueError, match="cannot be had under torchrun"):
        workers.make_workers(compose.compose_default(["collector=distributed"]), *several)


def test_submitit_writes_into_the_folder_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    submitit = SimpleNamespace(AutoExecutor=lambda folder: asked.append(folder))
    monkeypatch.setitem(sys.modules, "submitit", submitit)
    # As TorchRL's distributed collector calls it.
    make = lambda *_, **__: submitit.AutoExecutor(folder="log_test")  # noqa: E731
    monkeypatch.setattr(workers, "Collector", make)
    options = ["collector=distributed", "collector.launcher=submitit", "train_ratio=3"]
    tiny = make_tiny(*options, "collector.max_policy_age=1000")
    ratio = workers.UpdateRatio(3, 3, 5)
    made = workers.make_workers(
        tiny.cfg, tiny.policy, tiny.learner, ratio, Processes(), 0, tmp_path
    )
    made._make(0, 0)
    submitit.AutoExecutor("mine")
    assert asked == [tmp_path / "submitit", "mine"]
