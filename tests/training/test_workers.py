"""Collection in other processes: ages, replacements, streams."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from tensordict import TensorDict
from tiny import make_tiny
from torch import nn

from mario_dreamer.commands._parts import make_core
from mario_dreamer.config import compose, workers
from mario_dreamer.tracking.files import read_metrics
from mario_dreamer.training.acting_policy import ActingPolicy
from mario_dreamer.training.checkpoint_files import newest_whole, read
from mario_dreamer.training.distributed import Processes
from mario_dreamer.training.evaluation import episode_ends
from mario_dreamer.training.workers import WorkerCollector, WorkerOptions

OPTIONS = WorkerOptions(max_policy_age=12, weights_every=1, wait=0.6, updates_per_batch=2)


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

    def __init__(self, make: Callable, count: int = 2, options: WorkerOptions = OPTIONS) -> None:
        self.updates = 0
        self.policy = nn.Linear(1, 1)
        self.policy.uniform = True
        streams = list(torch.arange(2 * count).reshape(count, 2))
        self.collector = WorkerCollector(make, streams, self.policy, lambda: self.updates, options)

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


def test_a_worker_that_never_plays_ends_the_run_with_its_reason() -> None:
    def make(number: int, life: int) -> Fake:
        raise ValueError("no such level")

    learner = Learner(make, count=1)
    with pytest.raises(RuntimeError, match="worker 0 failed .ValueError: no such level., and so"):
        learner.turn()


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
    options = WorkerOptions(max_policy_age=6, weights_every=1, wait=1, updates_per_batch=2)
    with pytest.raises(ValueError, match="max_policy_age=6 is too low: .* set it to 7 or more"):
        Learner(lambda number, life: Fake(), options=options)


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
    parts = (tiny.policy, tiny.learner, workers.UpdateRatio(3, 3, 5), Processes(), 0)
    with pytest.raises(ValueError, match="num_envs=3 cannot be shared equally by .*workers=2"):
        workers.make_workers(tiny.cfg, *parts)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"collector=ray needs .*mario_dreamer\[ray\]"):
        workers.make_workers(compose.compose_default(["collector=ray"]), *parts)
    several = (*parts[:3], Processes(), 0)
    several[3].size = 2
    with pytest.raises(ValueError, match="cannot be had under torchrun"):
        workers.make_workers(compose.compose_default(["collector=distributed"]), *several)


def played(backend: str, folder: Path, *options: str) -> None:
    """Play with real workers, kill one with -9, play on; check ages and streams."""
    tiny = make_tiny(
        f"collector={backend}", "collector.num_envs=4", "collector.steps_per_env=4",
        "collector.workers=2", "train_ratio=3", "env.length=30", "replay.capacity=100000", *options,
    )  # fmt: skip
    others = set(psutil.Process().children(recursive=True))
    core = make_core(tiny.cfg, folder)
    collector = iter(core.collector)
    seen: set[int] = set()

    def turn() -> torch.Tensor:
        batch = next(collector)
        assert core.learner.updates - int(batch["policy_version"].min()) <= 100
        episode_ends(batch)
        core.replay.extend(batch)
        core.learner.updates += 4
        seen.update(batch["stream"][:, 0].tolist())
        return batch["policy_version"]

    deadline = time.monotonic() + 240
    while seen != {0, 1, 2, 3} and time.monotonic() < deadline:
        turn()
    before = list(core.replay.streams.written)
    children = set(psutil.Process().children(recursive=True)) - others
    victims = [
        child for child in children
        if child.name().startswith("ray::Coll") or "spawn_main" in " ".join(child.cmdline())
    ]  # fmt: skip
    assert len(victims) == 2
    victims[0].kill()
    while sum(core.collector._replaced) == 0 and time.monotonic() < deadline:
        assert int(turn().min()) > 0
    seen.clear()
    while seen != {0, 1, 2, 3} and time.monotonic() < deadline:
        turn()
    core.collector.shutdown()
    psutil.wait_procs(victims, timeout=20)
    assert not [process for process in victims if process.is_running()]
    assert sum(core.collector._replaced) == 1 and seen == {0, 1, 2, 3}
    for stream, old in enumerate(before):
        records = core.replay.newest(stream, 25_000)
        assert len(records) > old, "nothing is lost, every stream goes on"
        first = records["is_first"].flatten().nonzero().flatten()
        assert int(first[0]) == 0
        ends = [int(n) for n in first[1:]]
        assert all(bool((records["prev_action"][n] == 0).all()) for n in ends)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["process", "distributed"])
def test_a_killed_process_is_replaced_and_nothing_is_lost(backend: str, tmp_path: Path) -> None:
    played(backend, tmp_path)


@pytest.mark.slow
def test_a_killed_ray_actor_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    try:
        played("ray", tmp_path, "collector.cpus=0.5")
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_a_ray_cluster_that_is_not_there_is_one_line() -> None:
    pytest.importorskip("ray")
    with pytest.raises(ConnectionError, match=r"no Ray cluster at collector.address=auto [^\n]*$"):
        workers._connect("auto")


@pytest.mark.slow
def test_an_async_run_stops_on_ctrl_c_and_resumes_at_its_ratio(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mario_dreamer", "train"]
    small = [
        "experiment=debug", "collector=async", "collector.num_envs=4", "env.image_size=16",
        "batch_size=2", "batch_length=6", "train_ratio=3", "imag_horizon=2", "threads=1",
        "collector.steps_per_env=4", "log_every=64", "eval_every=0", "save_every=0",
        "tracker=csv", f"runs_dir={tmp_path}", "name=a", "steps=1000000",
    ]  # fmt: skip
    run = subprocess.Popen(
        [*command, *small], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("a/metrics.csv")) and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(3)
    group = psutil.Process(run.pid).children(recursive=True)
    os.killpg(run.pid, signal.SIGINT)
    printed = run.communicate(timeout=90)[0]
    assert "KILLED (SIGINT)" in printed and "Traceback" not in printed, printed[-2000:]
    psutil.wait_procs(group, timeout=20)
    assert not [process for process in group if process.is_running()]
    saved = newest_whole(tmp_path / "a" / "checkpoints")
    before = read(saved, "learning")
    steps = before["agent_steps"]
    done = subprocess.run(
        [*command, f"resume={tmp_path / 'a'}", f"steps={steps + 128}"], capture_output=True,
        text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "episodes begin again, because they are played in other processes" in done.stdout
    after = read(newest_whole(tmp_path / "a" / "checkpoints"), "learning")
    more = after["agent_steps"] - steps
    assert after["updates"] == before["updates"] + before["loop"]["pending"] + more * 3 // 12
    ages = [value for _, value in read_metrics(tmp_path / "a")["speed/policy_age"]]
    assert ages and max(ages) <= 100
