from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import two_processes
from tiny import make_loop

from mario_dreamer.training import distributed
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import read
from mario_dreamer.training.distributed import Processes, ProcessLost, join
from mario_dreamer.training.loop import train

HERE = Path(__file__).resolve().parent


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two gloo processes found out, this one and another, see two_processes.py."""
    file = tmp_path_factory.mktemp("two") / "second.json"
    as_torchrun = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    second = subprocess.Popen(
        [sys.executable, str(HERE / "two_processes.py"), str(file)], text=True,
        stderr=subprocess.PIPE, env={**os.environ, **as_torchrun, "RANK": "1"},
    )  # fmt: skip
    try:
        with mock.patch.dict(os.environ, {**as_torchrun, "RANK": "0"}):
            first = two_processes.found_out()
        errors = second.communicate(timeout=60)[1]
    finally:
        second.kill()
    assert second.returncode == 0, errors[-3000:]
    return [first, json.loads(file.read_text())]


def test_two_processes_have_the_gradients_of_the_whole_batch(found: list) -> None:
    for one in found:
        assert one["gradients"] < 1e-6 * max(1.0, one["size of gradients"])
        assert one["without averaging"] > 1e-3 * one["size of gradients"]


def test_percentiles_and_metrics_are_those_of_the_whole_batch(found: list) -> None:
    assert [one["percentiles"] < 1e-5 for one in found] == [True, True]
    assert [one["metrics"] < 1e-4 for one in found] == [True, True]


def test_two_processes_keep_the_same_weights(found: list) -> None:
    assert found[0]["weights"] == found[1]["weights"]


def test_processes_agree_and_exchange(found: list) -> None:
    assert [one["members"] for one in found] == [[0, 1], [0, 1]]
    assert [one["any"] for one in found] == [[True, False], [True, False]]
    assert [one["answer"] for one in found] == [7, 7]
    assert [one["refusal"] for one in found] == ["ValueError", "SystemExit"], "one line, from one"


def test_a_single_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = join()
    assert (alone.size, alone.first, alone.seed_offset) == (1, True, 0)
    assert alone.exchange("x") == ["x"] and alone.any(True)
    assert torch.equal(alone.gather(torch.arange(3)), torch.arange(3))


def test_more_processes_than_gpus_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="4 processes on this machine, but torch sees 2 GPUs"):
        distributed._check_gpus("cuda", 4)
    with pytest.raises(ValueError, match="names one GPU"):
        distributed._check_gpus("cuda:1", 2)


def test_apple_gpus_serve_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ValueError, match="device=mps serves one process, not 2"):
        join("mps")


def test_a_port_in_use_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1",
                            "MASTER_PORT": port}.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        with pytest.raises(ConnectionError, match=f"127.0.0.1:{port}: this port is in use"):
            join("cpu")


def test_another_configuration_is_named_by_process_0(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes()
    monkeypatch.setattr(processes, "exchange", lambda value: [value, "seed: 1\nsteps: 3"])
    with pytest.raises(ValueError, match="process 0 has 'steps: 2', process 1 'steps: 3'"):
        distributed.check_same(processes, "the configuration", "seed: 1\nsteps: 2")


@pytest.mark.parametrize(
    ("name", "value"), [("WORLD_SIZE", "many"), ("WORLD_SIZE", "0"), ("RANK", "x"), ("RANK", ""), ("LOCAL_RANK", "-1")]
)
def test_a_variable_of_torchrun_that_is_no_number_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=rf"\${name} is '{value}', expected a number from [01]: unset"):
        join("cpu")


def test_a_rank_beyond_the_processes_is_refused_before_any_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "5")
    with pytest.raises(ValueError, match=r"RANK=5 of .WORLD_SIZE=2 .*ranks begin at 0"):
        join("cpu")


class Lonely(Processes):
    """A process whose partner is gone once it is `disconnected`."""

    def exchange(self, value: object) -> list:
        if self.disconnected:
            raise ProcessLost("process 0 of 2 ended")
        return super().exchange(value)

    def any(self, flag: bool) -> bool:
        return any(self.exchange(flag))


def test_an_evaluation_that_a_killed_process_began_is_due_on_resume(tmp_path: Path) -> None:
    def evaluate(agent_steps: int) -> dict[str, float]:
        parts.processes.disconnected = True
        return {}

    _, parts, run = make_loop(tmp_path, "eval_every=8", "steps=24", evaluate=evaluate)
    parts.processes = Lonely()
    with pytest.raises(ProcessLost, match="What was learned so far is saved"):
        train(parts, run)
    assert read(Checkpoints(tmp_path).latest(), "learning")["loop"]["evaluating"]
