"""Collection in real processes, Ray actors and jobs: killed, interrupted, refused."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from tiny import make_tiny

from mario_dreamer.commands._parts import make_core
from mario_dreamer.config import workers
from mario_dreamer.tracking.files import read_metrics
from mario_dreamer.training.checkpoint_files import newest_whole, read
from mario_dreamer.training.evaluation import episode_ends
from mario_dreamer.training.worker import Worker


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
    while sum(map(len, core.collector._past)) == 0 and time.monotonic() < deadline:
        turn()
    seen.clear()
    while seen != {0, 1, 2, 3} and time.monotonic() < deadline:
        version = turn()
    assert int(version.min()) > 0, "the new weights arrive"
    core.collector.shutdown()
    psutil.wait_procs(victims, timeout=20)
    assert not [process for process in victims if process.is_running()]
    assert sum(map(len, core.collector._past)) == 1 and seen == {0, 1, 2, 3}
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
def test_jobs_of_submitit_train_a_whole_run(tmp_path: Path) -> None:
    """Without a cluster submitit starts its jobs as processes of this machine."""
    pytest.importorskip("submitit")
    if shutil.which("srun"):
        pytest.skip("a SLURM cluster is here, and this test does not know its partitions")
    words = [
        "experiment=debug", "collector=distributed", "collector.launcher=submitit",
        "collector.slurm={timeout_min:10,slurm_cpus_per_task:1}", "collector.num_envs=4",
        "env.image_size=16", "batch_size=2", "batch_length=6", "imag_horizon=2", "threads=1",
        "steps=200", "log_every=64", "eval_every=0", "save_every=0", "tracker=csv", "name=a",
    ]  # fmt: skip
    command = [sys.executable, "-m", "mario_dreamer", "train", *words, f"runs_dir={tmp_path}"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "FINISHED (steps)" in done.stdout
    assert read_metrics(tmp_path / "a")["speed/policy_age"][-1][1] <= 100
    assert any((tmp_path / "a" / "submitit").iterdir()) and not (tmp_path / "log_test").exists()


@pytest.mark.slow
def test_a_ray_cluster_that_is_not_there_is_one_line() -> None:
    pytest.importorskip("ray")
    with pytest.raises(ConnectionError, match=r"no Ray cluster at collector.address=auto [^\n]*$"):
        workers._connect("auto")


HANGING = """
import multiprocessing, time
from mario_dreamer.envs.toy.corridor import make_toy_env
def make_env(num_envs, seed, image_size, cells, max_steps, action_repeat):
    if multiprocessing.parent_process() is not None:
        time.sleep(600)
    return make_toy_env(num_envs, seed, image_size, cells, max_steps)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["process", "distributed"])
def test_ctrl_c_is_obeyed_while_workers_start(backend: str, tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(HANGING)
    words = [
        "experiment=debug", f"collector={backend}", "collector.num_envs=4", "threads=1",
        "env._target_=hanging.make_env", "tracker=csv", f"runs_dir={tmp_path}", "name=a",
    ]  # fmt: skip
    run = subprocess.Popen(
        [sys.executable, "-m", "mario_dreamer", "train", *words], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    deadline = time.monotonic() + 100
    while len(children := psutil.Process(run.pid).children()) < 2 and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(10)
    began = time.monotonic()
    os.killpg(run.pid, signal.SIGINT)
    printed = run.communicate(timeout=60)[0]
    assert time.monotonic() - began < 15
    assert "KILLED (SIGINT)" in printed, printed[-2000:]
    assert not psutil.wait_procs(children, timeout=20)[1]


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


def test_a_job_of_submitit_is_lost_when_it_is_done_and_ends_by_cancel() -> None:
    class Job:  # as TorchRL keeps them with its processes: no is_alive(), no kill()
        cancelled = False

        def done(self) -> bool:
            return self.cancelled

        def cancel(self) -> None:
            self.cancelled = True

    worker = object.__new__(Worker)
    worker._requests, worker._collector = queue.SimpleQueue(), SimpleNamespace(jobs=[Job()])
    assert not worker.lost()
    worker.kill()
    assert worker.lost()
