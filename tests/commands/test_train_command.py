"""From the command line to a checkpoint and on from there; and how bad input is refused."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from typed import command

from mario_dreamer import cli
from mario_dreamer.commands import _command, _folder, _sweep, train
from mario_dreamer.config import compose
from mario_dreamer.config.stored import resumed_config
from mario_dreamer.tracking.metrics import undocumented
from mario_dreamer.training import checkpoint
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import read
from mario_dreamer.training.learner import Learner

TINY = [
    "experiment=debug", "env.image_size=16", "batch_size=4", "batch_length=8", "imag_horizon=3",
    "train_ratio=4", "steps=128", "log_every=64", "save_every=64", "eval_every=128",
    "eval_episodes=2", "collector.num_envs=4", "collector.eval_envs=2", "tracker=csv",
    "threads=1", "device=cpu", "precision=fp32",
]  # fmt: skip
SEED_NAMES = {"train_return", "eval_return", "model_loss", "actor_loss", "value_loss", "kl"}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert "FINISHED" in command(folder, "train", *TINY, "name=one", f"runs_dir={folder}")
    return folder


def test_a_run_leaves_checkpoints_metrics_and_its_configuration(runs: Path) -> None:
    run = runs / "one"
    saved = [path.name for path in Checkpoints(run / "checkpoints").all()]
    assert saved == ["step_000000128", "step_000000064"]
    learning = read(run / "checkpoints" / saved[0], "learning")
    # 32 steps a turn in four envs; B * T = 32 records are there after the first turn
    assert learning["agent_steps"] == 128 and learning["updates"] == (128 - 32) * 4 // 32
    assert json.loads((run / "run.json").read_text())["status"] == "FINISHED"
    assert "batch_length: 8" in (run / "config.yaml").read_text()


def test_every_logged_number_is_documented(runs: Path) -> None:
    shown = {name for line in lines(runs / "one") for name in line} - {"step", "time"}
    assert undocumented(shown) == []
    assert shown >= SEED_NAMES
    assert {"speed/fps", "run/updates", "dream/return_mean", "eval/open_loop_error"} <= shown


def test_a_resume_keeps_the_run_and_its_counters(runs: Path) -> None:
    before = json.loads((runs / "one" / "run.json").read_text())
    words = ("train", "resume=latest", "steps=192", "eval_every=0", f"runs_dir={runs}")
    assert f"{runs / 'one'}  (agent step 128 of 192)" in command(runs, *words)
    after = json.loads((runs / "one" / "run.json").read_text())
    assert after["run_id"] == before["run_id"]
    steps = [line["run/agent_steps"] for line in lines(runs / "one") if "run/updates" in line]
    assert steps == sorted(set(steps)) and steps[-1] == 192, "no step is logged twice"
    learning = read(Checkpoints(runs / "one" / "checkpoints").latest(), "learning")
    assert learning["updates"] == (192 - 32) * 4 // 32
    assert list(runs.iterdir()) == [runs / "one"]


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    words = [*TINY, "name=three", f"runs_dir={tmp_path}", "tracker._target_=torch.nn.Identity"]
    with pytest.raises(ValueError, match="tracker: .*Identity lacks log_metrics.*a torchrl.*Logger"):
        train.run_training(compose.compose_default(words), words)
    assert list(tmp_path.iterdir()) == []


def test_control_c_saves_a_checkpoint_and_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal of the keyboard, here within this process; test_fault_processes.py sends others."""
    update = Learner.update

    def interrupted(*args: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return update(*args)

    monkeypatch.setattr(Learner, "update", interrupted)
    words = [*TINY, "name=two", "steps=1_000_000", "save_every=0", "eval_every=0"]
    said = command(tmp_path, "train", *words, f"runs_dir={tmp_path}", code=130)
    assert "KILLED (SIGINT)" in said
    assert f"go on with: mario-dreamer train resume={tmp_path / 'two'}" in said
    assert json.loads((tmp_path / "two" / "run.json").read_text())["status"] == "KILLED"
    assert Checkpoints(tmp_path / "two" / "checkpoints").latest() is not None


BAD = {
    "an unknown head": (["head@reward=atlantis"], "expected one of bernoulli, mse, twohot,"),
    "a frame that cannot be halved": (["env.image_size=20"], "multiple of 16; got 20 x 20"),
    "a word for a number": (["steps=many"], "steps must be a whole number, at least 1; got 'many'"),
    "a fraction of a step": (["steps=0.5"], "steps must be a whole number"),
    "no batch": (["batch_size=0"], "batch_size must be a whole number, at least 1 and at most 1048576; got 0"),
    "no checkpoints": (["keep_checkpoints=0"], "keep_checkpoints must be a whole number"),
    "no ratio": (["train_ratio=0"], "train_ratio must be a number, above 0"),
    "no horizon": (["imag_horizon=0"], "imag_horizon must be a whole number, at least 1"),
    "an impossible discount": (["discount=2"], "discount must be a number, above 0 and at most 1"),
    "an unknown precision": (["precision=half"], "precision must be one of auto, bf16, 16, fp32, 32"),
    "an unknown compiler": (["compile=fast"], "compile must be off, on, cudagraph or on+cudagraph"),
    "a group that is not there": (["optimizer.lr={actr:1}"], "there is no group 'actr'; did you mean actor?"),
    "nothing to resume": (["resume=latest"], "no whole checkpoint found for 'latest'"),
}  # fmt: skip


def output_of(words: list[str], folder: Path, capfd: pytest.CaptureFixture) -> tuple[int, str]:
    """Run the command in this process; return its exit code and what it said on stderr."""
    with pytest.raises(SystemExit) as end:
        cli.main(["train", *TINY, *words, f"runs_dir={folder}"])
    return end.value.code, capfd.readouterr().err


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_gets_one_clear_message_and_no_traceback(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    words, message = BAD[kind]
    code, said = output_of(words, tmp_path, capfd)
    assert code == 1
    assert message in said
    assert "Traceback" not in said


def test_a_gpu_that_is_not_there_is_a_clear_message(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    code, said = output_of(["device=cuda"], tmp_path, capfd)
    assert code == 1 and "no CUDA GPU" in said and "device=cpu" in said
    assert "Traceback" not in said


def test_a_second_run_does_not_settle_in_the_folder_of_the_first(
    runs: Path, capfd: pytest.CaptureFixture
) -> None:
    code, said = output_of(["name=one"], runs, capfd)
    assert code == 1 and "holds a run already" in said and "resume=" in said


def trained(folder: Path, *words: str) -> dict[str, Any]:
    cfg = compose.compose_default([*TINY, "eval_every=0", "steps=64", *words, f"runs_dir={folder}"])
    return train.run_training(cfg)


def test_a_time_limit_is_a_finished_run_with_its_reason(tmp_path: Path) -> None:
    result = trained(tmp_path, "minutes=0.000001", "name=42")
    assert (result["status"], result["stopped"]) == ("FINISHED", "minutes")
    run = json.loads((tmp_path / "42" / "run.json").read_text())
    assert run["status"] == "FINISHED" and run["tags"]["stopped"] == "minutes"
    assert run["tags"]["resume"] == f"train resume={tmp_path / '42'}"
    assert lines(tmp_path / "42")[-1]["run/agent_steps"] == 32


def test_runs_started_in_the_same_second_get_their_own_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda *_: "20261126-120000")
    cfg = compose.compose_default(["experiment=debug", f"runs_dir={tmp_path}"])
    names = [_folder.folder_of(cfg, tmp_path, None).name for _ in range(3)]
    assert names == [f"debug-20261126-120000{end}" for end in ("", "-2", "-3")]


def test_a_run_without_an_update_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    result = trained(tmp_path, "prefill=1000")
    assert "WARNING: steps=64 make no update: learning begins after prefill=1000" in (
        capsys.readouterr().out
    )
    assert result["updates"] == 0


def test_a_run_that_could_not_be_saved_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", refuse)
    code, said = output_of(["steps=64", "eval_every=0", "name=full"], tmp_path, capfd)
    assert code == 1 and "its last checkpoint could not be saved" in said
    assert json.loads((tmp_path / "full" / "run.json").read_text())["status"] == "FAILED"


def test_a_failing_job_of_a_sweep_lets_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    ran: list[int] = []

    def run(cfg: Any, overrides: list[str]) -> dict[str, Any]:
        ran.append(cfg.seed)
        alone = shlex.split(_sweep.job_command()["command"])
        assert alone[:2] == ["mario-dreamer", "train"] and f"seed={cfg.seed}" in alone
        if cfg.seed == 5:  # on another machine
            monkeypatch.setenv(_command.FAILED_JOBS, "/nowhere/jobs.txt")
        if cfg.seed in (1, 5):
            raise ValueError("not this one")
        stopped = "SIGINT" if cfg.seed == 3 else "steps"
        status = "KILLED" if cfg.seed == 3 else "FINISHED"
        result = {"status": status, "stopped": stopped, "folder": "x", "updates": 1}
        return result | {"metrics": {}, "first": True, "steps": 8, "trust": ""}

    monkeypatch.setattr(train, "run_training", run)
    code, said = output_of(["-m", "seed=1,2"], tmp_path / "runs", capfd)
    assert ran == [1, 2] and code == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"], "Hydra leaves its notes there"
    assert "error: not this one" in said and "1 run failed: " in said and "seed=1" in said
    _command.run("train", train.main, ["-m", "seed=5,6", f"runs_dir={tmp_path / 'runs'}"])
    code, _ = output_of(["-m", "seed=3,4"], tmp_path / "runs", capfd)
    assert ran[2:] == [5, 6, 3] and code == 130, "Ctrl-C ends the sweep"


def test_a_single_run_leaves_nothing_in_tmp_when_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen: list[list[Path]] = []
    _command.run("train", lambda cfg: seen.append(list(tmp_path.iterdir())), [])
    assert seen == [[]]


def test_a_launcher_or_sweeper_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # to have it taken away again
    monkeypatch.delenv("HYDRA_FULL_ERROR")
    taken = tmp_path / "taken"
    taken.write_text("a file where Hydra's notes go")
    with pytest.raises(SystemExit, match=f"error: {taken}: File exists"):
        _command.run("train", train.main, ["-m", "seed=1,2", f"hydra.sweep.dir={taken}"])
    assert "Traceback" not in capfd.readouterr().err


def test_a_fault_in_a_job_of_a_sweep_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "run_training", lambda *_: [].pop())
    with pytest.raises(IndexError):
        _command.run("train", train.main, ["-m", "seed=1,2", f"runs_dir={tmp_path}"])


def test_an_unknown_value_on_a_resume_is_named(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    checkpoint = Checkpoints(runs / "one" / "checkpoints").latest()
    with pytest.raises(ValueError, match="'stepz' is not in the run's configuration"):
        resumed_config(checkpoint, runs / "one", ["stepz=5"])


def test_a_resume_keeps_choices_and_changes_numbers(runs: Path) -> None:
    checkpoint = Checkpoints(runs / "one" / "checkpoints").latest()
    kept = ["env=mario_1_1", "head@reward=mse", "~critic.layers"]
    typed = ["steps=500", "optimizer.lr=0.5", *kept]
    cfg, ignored = resumed_config(checkpoint, runs / "one", typed)
    assert cfg.steps == 500 and cfg.optimizer.lr == 0.5
    assert ignored == kept and cfg.critic.layers is not None
    assert cfg.env.image_size == 16


def test_a_resume_reads_values_as_the_command_line_does(runs: Path) -> None:
    checkpoint = Checkpoints(runs / "one" / "checkpoints").latest()
    rates = "{world_model:3.0e-4,actor:6e-5,critic:1}"  # no space after a colon: not YAML
    cfg, _ = resumed_config(
        checkpoint, runs / "one",
        [f"optimizer.lr={rates}", "minutes=null", "save_model='a, b'"],
    )
    assert cfg.optimizer.lr == {"world_model": 3e-4, "actor": 6e-5, "critic": 1}
    assert cfg.minutes is None and cfg.save_model == "a, b"
    with pytest.raises(ValueError, match="'new' is not in the run's configuration"):
        resumed_config(checkpoint, runs / "one", ["+new=[1,x]"])


def test_a_folder_in_use_is_refused_with_the_process(tmp_path: Path) -> None:
    with _folder.lock(tmp_path), pytest.raises(ValueError, match=f"process {os.getpid()}"):
        _folder.lock(tmp_path)
    _folder.lock(tmp_path).release()
