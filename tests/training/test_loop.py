from __future__ import annotations

import io
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from tiny import Tiny, make_loop, make_tiny, restore

from mario_dreamer.tracking.progress import Progress
from mario_dreamer.tracking.run_stats import RunStats
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import read
from mario_dreamer.training.finite import NonFiniteLoss
from mario_dreamer.training.loop import Parts, train


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tiny, Parts, Path]:
    """A run of 48 steps that nothing disturbed, and the folder of its checkpoints."""
    folder = tmp_path_factory.mktemp("whole")
    tiny, parts, run = make_loop(folder)
    assert train(parts, run) == "FINISHED"
    return tiny, parts, folder


def logged(parts: Parts, name: str) -> list[float]:
    return [values[name] for _, values in parts.report.tracker.shown if name in values]


def test_a_run_acts_remembers_learns_reports_and_saves(whole: tuple) -> None:
    tiny, parts, folder = whole
    # The first batch has 8 + 2 records of the 15 that one batch needs; the second has enough.
    assert tiny.learner.updates == (48 - 16) // 2
    # length 6: after 24 steps each env has had 4 episodes, 7 records each
    assert len(tiny.replay) == 2 * 4 * 7
    assert logged(parts, "run/agent_steps") == [16, 32, 48]
    assert logged(parts, "run/updates") == [0, 8, 16]
    assert logged(parts, "train_return") == [10.0 * 21] * 8
    assert [path.name for path in Checkpoints(folder).all()] == [
        "step_000000048", "step_000000032",
    ]  # fmt: skip


def test_learning_waits_for_the_prefill_and_owes_no_burst(tmp_path: Path) -> None:
    tiny, parts, run = make_loop(tmp_path, "prefill=32", "prefill_random=true", "pretrain=3")
    uniform = []
    tiny.policy.register_forward_pre_hook(lambda policy, _: uniform.append(policy.uniform))
    train(parts, run)
    assert tiny.learner.updates == 3 + (48 - 32) // 2
    assert uniform == [True] * 16 + [False] * 8, "four steps a batch; learning after four batches"


@pytest.mark.parametrize(("flags", "updates"), [(0, 32 - 16), (1, (32 - 16) // 2)])
def test_more_is_learned_per_step_until_the_first_flag(
    flags: int, updates: int, tmp_path: Path
) -> None:
    tiny, parts, run = make_loop(tmp_path, "train_ratio_before_flag=15", "steps=32")
    parts.report.flags = flags
    train(parts, run)
    assert tiny.learner.updates == updates


def test_a_resume_goes_on_counting_at_the_same_ratio(whole: tuple, tmp_path: Path) -> None:
    tiny, parts, run = make_loop(tmp_path, "steps=64", "prefill=0", "pretrain=50")
    agent_steps = restore(parts, Checkpoints(whole[2]).latest())
    assert agent_steps == 48 and tiny.learner.updates == 16
    assert train(parts, run, agent_steps) == "FINISHED"
    assert tiny.learner.updates == 16 + (64 - 48) // 2, "no burst, no second pretraining"
    assert logged(parts, "run/agent_steps") == [64]
    assert logged(parts, "run/updates") == [24]
    assert logged(parts, "run/episodes")[-1] > 8
    assert read(Checkpoints(tmp_path).latest(), "learning")["agent_steps"] == 64


@pytest.fixture(scope="module")
def in_mid_episode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of step 16, in the middle of episodes of 30 steps in each of the two envs."""
    folder = tmp_path_factory.mktemp("mid")
    _, parts, run = make_loop(folder, "env.length=30", "steps=16")
    train(parts, run)
    return Checkpoints(folder).latest()


def played_over_a_resume(checkpoint: Path, folder: Path, stage: str) -> torch.Tensor:
    """Go on in mid-episode; return the is_first flags of the first env, in order."""
    _, parts, run = make_loop(folder, "env.length=30", "steps=32")
    restore(parts, checkpoint, env_options=stage)
    train(parts, run, 16)
    batch = parts.replay.sample(200)
    seam = batch["is_first"][:, 1:, 0]
    assert bool(batch["is_last"][:, :-1, 0][seam].all())
    assert not bool(batch["is_terminal"].any())
    return parts.replay.newest(0, 100)["is_first"].flatten()


def test_after_a_resume_the_open_episode_is_played_on(in_mid_episode: Path, tmp_path: Path) -> None:
    flags = played_over_a_resume(in_mid_episode, tmp_path, "")
    assert flags.tolist() == [True] + [False] * 16


def test_in_other_envs_the_cut_episode_is_closed_not_terminal(
    in_mid_episode: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = played_over_a_resume(in_mid_episode, tmp_path, "another stage")
    assert flags.nonzero().flatten().tolist() == [0, 9]
    assert "episodes begin again, because the options of the envs have changed" in (
        capsys.readouterr().out
    )


def terminate_in_update_6(tiny) -> None:
    """SIGTERM in the middle of the second turn of four updates: two are still to be made."""
    total = []

    def stop(*_: object) -> None:
        total.append(1)
        if len(total) == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    tiny.learner.imagination.register_forward_hook(stop)


def test_a_run_that_is_over_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny, parts, run = make_loop(tmp_path)
    assert train(parts, run, agent_steps=48) == "FINISHED"
    assert tiny.learner.updates == 0 and len(tiny.replay) == 0
    assert "steps=" in caplog.text


def test_the_time_limit_ends_a_run_saved(tmp_path: Path) -> None:
    _, parts, run = make_loop(tmp_path, "minutes=0.000001")
    assert train(parts, run) == "FINISHED" and parts.state.stopped == "minutes"
    assert Checkpoints(tmp_path).latest() == tmp_path / "step_000000008"
    assert logged(parts, "run/agent_steps") == [8]


def test_a_non_finite_loss_ends_the_run_with_good_weights_saved(tmp_path: Path) -> None:
    tiny, parts, run = make_loop(tmp_path)

    def poison(module: torch.nn.Module, inputs: tuple) -> None:
        if tiny.learner.updates == 5:
            inputs[0]["reward"][0, 0] = float("nan")

    tiny.learner.world_model_loss.register_forward_pre_hook(poison)
    with pytest.raises(NonFiniteLoss, match="update 6: loss_reward"):
        train(parts, run)
    agent = read(Checkpoints(tmp_path).latest(), "agent")
    assert all(bool(torch.isfinite(value).all()) for value in agent.values())


def test_a_disk_that_refuses_does_not_stop_the_learning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny, parts, run = make_loop(tmp_path / "checkpoints", "steps=32")
    (tmp_path / "checkpoints").rmdir()
    (tmp_path / "checkpoints").write_text("a file where the folder was")
    assert train(parts, run) == "FINISHED"
    assert tiny.learner.updates == 8 and parts.state.saved_at is None
    assert "cannot save" in caplog.text


def test_newer_latents_are_written_back_where_windows_start(tmp_path: Path) -> None:
    from mario_dreamer.training.loop import learn

    tiny = make_tiny().fill()
    storage = tiny.replay.buffer.storage
    rows = tiny.replay.streams.filled_rows()
    before = storage.column("prev_deter")[rows].clone()
    with torch.no_grad():
        for param in tiny.agent.world_model.rssm.parameters():
            param.add_(torch.randn_like(param))
    learn(tiny.replay, tiny.learner)
    after = storage.column("prev_deter")[rows]
    changed = (before != after).any(-1)
    assert 0 < int(changed.sum()) <= 3 * 4
    assert not bool((changed & storage.column("is_first")[rows, 0]).any())


def test_evaluation_waits_for_its_interval_and_for_learning(tmp_path: Path) -> None:
    asked: list[int] = []

    def evaluate(agent_steps: int) -> dict[str, float]:
        asked.append(agent_steps)
        return {"eval_return": 1.0}

    _, parts, run = make_loop(tmp_path, "eval_every=16", "prefill=24", evaluate=evaluate)
    train(parts, run)
    assert asked == [32, 48]
    assert logged(parts, "eval_return") == [1.0, 1.0]


def test_a_run_cut_by_a_signal_logs_then_learns_as_in_one_go(whole: tuple, tmp_path: Path) -> None:
    unbroken, parts, _ = whole
    steps, updates = logged(parts, "run/agent_steps"), logged(parts, "run/updates")

    tiny, parts, run = make_loop(tmp_path)
    terminate_in_update_6(tiny)
    train(parts, run)
    assert parts.state.stopped == "SIGTERM"
    before = logged(parts, "run/updates"), logged(parts, "run/agent_steps")
    assert before[0][-1] == 6, "the last log comes before the last save"
    saved = Checkpoints(tmp_path).latest()
    assert saved.name == "step_000000032" and read(saved, "learning")["loop"]["pending"] == 2
    tiny, parts, run = make_loop(tmp_path)
    train(parts, run, restore(parts, saved))
    assert before[1] + logged(parts, "run/agent_steps") == steps
    assert logged(parts, "run/updates") == updates[len(before[0]) :]
    one, two = (run.learner.modules.state_dict() for run in (unbroken, tiny))
    assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_a_broken_evaluation_is_one_line_and_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved: list[list[str]] = []

    def evaluate(agent_steps: int) -> dict[str, float]:
        saved.append([path.name for path in Checkpoints(tmp_path).all()])
        raise RuntimeError("no film today\nbecause")

    tiny, parts, run = make_loop(
        tmp_path, "eval_every=8", "save_every=0", "steps=24", evaluate=evaluate
    )
    assert train(parts, run) == "FINISHED" and tiny.learner.updates == 4
    assert saved[0] == ["step_000000016"], "saved before the evaluation"
    assert caplog.text.count("evaluation failed, training goes on: RuntimeError: no film") == 2
    assert not read(Checkpoints(tmp_path).latest(), "learning")["loop"]["evaluating"]


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


def test_an_evaluation_cut_by_a_kill_is_repeated_on_resume(tmp_path: Path) -> None:
    def killed(agent_steps: int) -> dict[str, float]:
        raise Killed

    _, parts, run = make_loop(tmp_path, "eval_every=8", "steps=24", evaluate=killed)
    with pytest.raises(Killed):
        train(parts, run)
    asked: list[int] = []

    def evaluate(agent_steps: int) -> dict[str, float]:
        asked.append(agent_steps)
        return {}

    _, parts, run = make_loop(tmp_path, "eval_every=8", "steps=24", evaluate=evaluate)
    train(parts, run, restore(parts, Checkpoints(tmp_path).latest()))
    assert asked == [16, 24]


def test_an_error_in_learning_is_saved_before_it_ends_the_run(tmp_path: Path) -> None:
    tiny, parts, run = make_loop(tmp_path, "save_every=0")

    def fail(*_: object) -> None:
        if tiny.learner.updates == 5:
            raise MemoryError("no more")

    tiny.learner.imagination.register_forward_hook(fail)
    with pytest.raises(MemoryError, match="no more. What was learned so far is saved"):
        train(parts, run)
    assert read(Checkpoints(tmp_path).latest(), "learning")["updates"] == 5
    assert logged(parts, "run/updates")[-1] == 5


def test_a_closed_stdout_ends_the_run_saved(tmp_path: Path) -> None:
    _, parts, run = make_loop(tmp_path, "log_every=8")
    stream = io.StringIO()
    parts.report.progress = Progress(RunStats(48), stream=stream)
    stream.close()
    assert train(parts, run) == "KILLED" and parts.state.stopped == "stdout closed"
    assert Checkpoints(tmp_path).latest().name == "step_000000016"


def test_a_run_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    tiny, parts, run = make_loop(tmp_path / "run" / "checkpoints", "steps=16")
    shutil.rmtree(tmp_path / "run")
    assert train(parts, run) == "FINISHED" and parts.state.saved_at == 16
    assert Checkpoints(tmp_path / "run" / "checkpoints").latest().name == "step_000000016"


def test_a_resume_does_not_repeat_a_finished_prefill(tmp_path: Path) -> None:
    options = ["prefill=16", "prefill_random=true", "train_ratio=1", "steps=16"]
    _, parts, run = make_loop(tmp_path, *options)
    train(parts, run)
    tiny, parts, run = make_loop(tmp_path, *options[:-1], "steps=24")
    agent_steps = restore(parts, Checkpoints(tmp_path).latest())
    assert tiny.learner.updates == 0 and parts.state.learning
    uniform = []
    tiny.policy.register_forward_pre_hook(lambda policy, _: uniform.append(policy.uniform))
    train(parts, run, agent_steps)
    assert uniform == [False] * 4
