"""What goes wrong on real machines: training goes on, or stops saved with one clear message."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from tiny import make_loop
from torch import Tensor

from mario_dreamer.commands import _command
from mario_dreamer.envs.base import EnvFailed
from mario_dreamer.envs.toy.counting import CountingEnv
from mario_dreamer.tracking.files import FileTracker, read_metrics
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import read, verify
from mario_dreamer.training.loop import train

FEW = "train_ratio=1.875"  # one update for each batch of the collector


@contextlib.contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond `limit` bytes: the kernel refuses, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_does_not_stop_learning_and_the_next_save_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny, parts, run = make_loop(tmp_path / "checkpoints", FEW)
    with full_disk(20_000):
        assert train(parts, run) == "FINISHED"
    assert tiny.learner.updates == 4
    assert "cannot save" in caplog.text and "Free some space" in caplog.text
    assert list((tmp_path / "checkpoints").iterdir()) == []
    run.steps = 64  # and there is room again
    train(parts, run, 48)
    saved = Checkpoints(tmp_path / "checkpoints").latest()
    assert saved is not None and saved.name == "step_000000064" and verify(saved) is None


def test_metrics_that_a_full_disk_refused_are_written_later(tmp_path: Path) -> None:
    tracker = FileTracker(tmp_path, csv=False)
    tracker.log_metrics({"kl": 1.0}, 1)
    with full_disk((tmp_path / "metrics.jsonl").stat().st_size):
        tracker.log_metrics({"kl": 2.0}, 2)
        tracker.log_metrics({"kl": 3.0}, 3)
    tracker.log_metrics({"kl": 4.0}, 4)
    tracker.close()
    assert read_metrics(tmp_path)["kl"] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]


def test_a_run_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "occupied").write_text("a file where the folder should be")

    @_command.entry_point
    def use(cfg: object) -> None:
        (tmp_path / "occupied" / "run").mkdir(parents=True)

    with pytest.raises(SystemExit) as end:
        use(OmegaConf.create())
    said = capsys.readouterr().err
    assert end.value.code == 1 and said.startswith("error: ") and "occupied" in said


def test_a_folder_that_turns_read_only_stops_no_learning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny, parts, run = make_loop(tmp_path / "checkpoints", FEW)
    folder = tmp_path / "checkpoints"
    folder.rmdir()
    folder.symlink_to("/proc/self/fdinfo")  # nobody can write there, root neither
    assert train(parts, run) == "FINISHED"
    assert tiny.learner.updates == 4 and "cannot save" in caplog.text


class Breaking(CountingEnv):
    """Raises, or pays nonsense, at one moment."""

    moment, kind = 5, "raise"
    taken = 0

    def _advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.taken += 1
        reward, terminated, truncated = super()._advance(action)
        if self.taken == self.moment and self.kind == "raise":
            raise RuntimeError("the cartridge was pulled out")
        if self.taken == self.moment:
            reward[1] = float("nan")
        return reward, terminated, truncated


@pytest.mark.parametrize(
    ("kind", "message"),
    [("raise", "RuntimeError: the cartridge was pulled out"), ("nan", "environment .1. is not a")],
)
def test_an_env_that_breaks_in_mid_step_ends_the_run_saved(
    tmp_path: Path, kind: str, message: str
) -> None:
    tiny, parts, run = make_loop(tmp_path / "checkpoints", FEW)
    env = tiny.env
    while hasattr(env, "base_env"):
        env = env.base_env
    env.__class__ = Breaking
    env.kind, env.moment = kind, 23  # in the sixth batch: eight agent steps each
    with pytest.raises(EnvFailed, match=message) as failure:
        train(parts, run)
    assert "after agent step 40" in str(failure.value) and "resume=" in str(failure.value)
    saved = Checkpoints(tmp_path / "checkpoints").latest()
    assert saved is not None and read(saved, "learning")["agent_steps"] == 40
    rewards = read(saved, "replay")["records"]["reward"]
    assert bool(torch.isfinite(rewards).all())


@pytest.mark.rom
def test_an_emulator_that_fails_costs_one_episode_and_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from mario_dreamer.envs.mario.make import make_mario_env

    env = make_mario_env(num_envs=2, image_size=16, action_repeat=2, threads=1)
    policy_free = env.rollout(3, break_when_any_done=False)
    assert not bool(policy_free["next", "done"].any())
    base = env.base_env
    broken = base.games[1].emulator
    broken.step = lambda byte: (_ for _ in ()).throw(OSError(errno.EIO, "the emulator is gone"))
    played = env.rollout(4, break_when_any_done=False)
    assert bool(played["next", "truncated"][1, 0]) and not bool(played["next", "terminated"].any())
    assert not bool(played["next", "done"][0].any()), "the other env plays on"
    assert base.games[1].emulator is not broken and base.failures == 1
    assert "env 1: its emulator failed" in caplog.text
    assert int(played["next", "time"][1, -1]) > 390, "a new game has begun"
    env.close()


def test_a_second_interrupt_is_obeyed_at_once(tmp_path: Path) -> None:
    tiny, parts, run = make_loop(tmp_path / "checkpoints")
    before = signal.getsignal(signal.SIGINT)
    calls = []

    def twice(*_: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    tiny.learner.imagination.register_forward_hook(twice)
    with pytest.raises(KeyboardInterrupt):
        train(parts, run)
    assert tiny.learner.updates <= 3
    assert signal.getsignal(signal.SIGINT) is before


def test_a_sigterm_before_training_begins_is_one_line_and_143(
    capsys: pytest.CaptureFixture,
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    @_command.entry_point
    def slow(cfg: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    try:
        with pytest.raises(SystemExit) as end:
            slow(OmegaConf.create())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 143 and "SIGTERM" in capsys.readouterr().err


def test_clock_jumps_change_neither_speed_nor_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = iter(range(10**6))
    true_time = time.time

    def jumping() -> float:  # a year ahead, then a day back, and so on
        return true_time() + (365 if next(jumps) % 2 else -1) * 86_400

    monkeypatch.setattr(time, "time", jumping)
    _, parts, run = make_loop(tmp_path / "checkpoints", FEW, "minutes=60")
    tracker = FileTracker(tmp_path, csv=False)
    parts.report.tracker = tracker
    assert train(parts, run) == "FINISHED"
    tracker.close()
    curves = read_metrics(tmp_path)
    assert [step for step, _ in curves["run/updates"]] == [16, 32, 48]
    assert all(0 < speed < 1e6 for _, speed in curves["speed/agent_steps_per_s"])
    assert Checkpoints(tmp_path / "checkpoints").latest().name == "step_000000048"


def test_memory_that_runs_out_is_one_line(capsys: pytest.CaptureFixture) -> None:
    @_command.entry_point
    def greedy(cfg: object) -> None:
        torch.empty(2**55, dtype=torch.uint8)

    with pytest.raises(SystemExit) as end:
        greedy(OmegaConf.create())
    said = capsys.readouterr().err
    assert end.value.code == 1 and "out of memory" in said and "batch_size" in said
