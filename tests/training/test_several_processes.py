"""Whole runs of two processes under torchrun: resumed, redistributed, killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from kill_checks import differences

from mario_dreamer.commands._folder import lock
from mario_dreamer.training.checkpoint_files import newest_whole, read

pytestmark = pytest.mark.slow

SMALL = [
    "experiment=debug", "env.image_size=16", "batch_size=2", "batch_length=6", "imag_horizon=2",
    "train_ratio=6", "log_every=8", "eval_every=24", "save_every=24", "eval_episodes=1",
    "collector.eval_envs=1", "collector.steps_per_env=4", "threads=1", "device=cpu",
    "precision=fp32", "tracker=csv", "optimizer.warmup=3", "collector.num_envs=2", "env.cells=4",
    "env.max_steps=7",
]  # fmt: skip
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(*words: str, processes: int = 2) -> subprocess.Popen:
    """Start a run of several processes; without torchrun where it is one."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    several = torchrun if processes > 1 else []
    return subprocess.Popen(
        [sys.executable, *several, "-m", "mario_dreamer", "train", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENV,
    )  # fmt: skip


def finish(*words: str, processes: int = 2) -> str:
    """Run to the end; return what was printed."""
    run = start(*words, processes=processes)
    out = run.communicate(timeout=300)[0]
    assert run.returncode == 0, out[-3000:]
    return out


def test_two_processes_resume_bit_for_bit(tmp_path: Path) -> None:
    runs = f"runs_dir={tmp_path}"
    finish(*SMALL, runs, "name=whole", "steps=96")
    finish(*SMALL, runs, "name=cut", "steps=48")
    printed = finish(f"resume={tmp_path / 'cut'}", "steps=96")
    assert "begin again" not in printed
    assert printed.count("run folder:") == 1, "one process prints"
    whole, cut = (newest_whole(tmp_path / name / "checkpoints") for name in ("whole", "cut"))
    assert whole.name == cut.name == "step_000000096"
    for stem in ("agent", "learning", "replay", "process_001"):
        assert differences(read(whole, stem), read(cut, stem)) == []
    streams = [read(whole, "replay"), read(whole, "process_001")["replay"]]
    assert not torch.equal(streams[0]["records"]["pixels"][:20], streams[1]["records"]["pixels"][:20])


def test_another_number_of_processes_deals_replay_again(tmp_path: Path) -> None:
    finish(*SMALL, f"runs_dir={tmp_path}", "name=two", "steps=48")
    before = newest_whole(tmp_path / "two" / "checkpoints")
    counts = [sum(read(before, "replay")["streams"]["written"]),
              sum(read(before, "process_001")["replay"]["streams"]["written"])]  # fmt: skip
    printed = finish(f"resume={tmp_path / 'two'}", "steps=56", processes=1)
    assert "2 of 2 processes and this run has 1: replay is redistributed" in printed
    assert f"({sum(counts)} records" in printed
    after = newest_whole(tmp_path / "two" / "checkpoints")
    assert after.name == "step_000000056" and not (after / "process_001.pt").exists()
    assert sum(read(after, "replay")["streams"]["written"]) > sum(counts)
    assert read(after, "learning")["updates"] > read(before, "learning")["updates"]
    printed = finish(f"resume={tmp_path / 'two'}", "steps=72")
    assert "1 of 1 processes and this run has 2: replay is redistributed" in printed


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others_saved(killed: int, tmp_path: Path) -> None:
    run = start(*SMALL, f"runs_dir={tmp_path}", "name=a", "steps=1000000", "save_every=0")
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("a/metrics.csv")) and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(5)
    ranks = {
        int(child.environ()["RANK"]): child for child in psutil.Process(run.pid).children()
        if "RANK" in child.environ()
    }  # fmt: skip
    began = time.monotonic()
    ranks[killed].send_signal(signal.SIGKILL)
    printed = run.communicate(timeout=60)[0]
    assert time.monotonic() - began < 30
    assert run.returncode != 0
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, printed[-3000:]
    assert f"process {killed} of 2 (pid {ranks[killed].pid}" in lines[0]
    assert "What was learned so far is saved" in lines[0]
    saved = newest_whole(tmp_path / "a" / "checkpoints")
    assert read(saved, "learning")["updates"] > 0
    steps = int(re.sub(r"\D", "", saved.name))
    printed = finish(f"resume={tmp_path / 'a'}", f"steps={steps + 32}")
    assert "1 of 2 processes and this run has 2: replay is redistributed" in printed


def test_ranks_that_disagree_are_one_line(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import os, sys\n"
        "sys.argv += ['seed=' + os.environ['RANK']]\n"
        "from mario_dreamer.__main__ import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
         str(script), "train", *SMALL, f"runs_dir={tmp_path}", "steps=48"],
        capture_output=True, text=True, env=ENV, timeout=200, check=False,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr[-3000:]
    assert "process 0 has 'seed: 0', process 1 'seed: 1'" in lines[0]
    assert list(tmp_path.iterdir()) == [script], "nothing was begun"


def test_a_folder_in_use_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with lock(tmp_path / "a"):
        run = start(*SMALL, f"runs_dir={tmp_path}", "name=a", "steps=48")
        printed = run.communicate(timeout=200)[0]
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, printed[-3000:]
    assert f"in use by process {os.getpid()}" in lines[0]
