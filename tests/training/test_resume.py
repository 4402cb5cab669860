"""N updates, save, a new process, M updates: bit for bit what N + M updates in one go give."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import make_tiny, restore

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from kill_checks import differences, load, rows  # noqa: E402

from mario_dreamer.commands import train
from mario_dreamer.config import compose
from mario_dreamer.training import checkpoint_parts
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import CheckpointError, read
from mario_dreamer.training.env_state import env_state, restore_env_state
from mario_dreamer.training.report import Report
from mario_dreamer.training.snapshot import Saved

SMALL = [
    "env.image_size=16", "batch_size=2", "batch_length=6", "imag_horizon=2", "train_ratio=3",
    "log_every=8", "eval_every=24", "save_every=0", "eval_episodes=1", "collector.eval_envs=1",
    "collector.steps_per_env=4", "replay.latents=true", "replay.prefetch=true", "threads=1",
    "device=cpu", "precision=fp32", "tracker=csv", "optimizer.warmup=3",
]  # fmt: skip
TOY = [
    "experiment=debug", *SMALL, "collector.num_envs=2", "env.cells=4", "env.max_steps=7",
]  # fmt: skip
MARIO = [
    "experiment=mario_debug", *SMALL, "collector.num_envs=3", "prefill=24", "prefill_random=true",
    "log_every=24", "eval_every=48",
    "env.max_steps=14", "env.random_noops=8", "env.sticky=0.25",
]  # fmt: skip


def here(words: list[str], folder: Path) -> Path:
    """Train in this process; return the run's folder."""
    words = [*words, f"runs_dir={folder}"]
    return Path(train.run_training(compose.compose_default(words), words)["folder"])


def elsewhere(words: list[str]) -> str:
    """Train in a new process; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "mario_dreamer", "train", *words],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 48 steps in one go."""
    return here([*TOY, "name=whole", "steps=48"], tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 24 steps with checkpoints of the last two turns."""
    words = [*TOY, "name=run", "steps=24", "save_every=8", "eval_every=0"]
    return here(words, tmp_path_factory.mktemp("ended"))


@pytest.fixture
def run(ended: Path, tmp_path: Path) -> Path:
    """A copy of `ended`, to go on with."""
    return shutil.copytree(ended, tmp_path / "run")


def compare(whole: Path, words: list[str], first: int, last: int, folder: Path) -> None:
    """Hold a run that was cut at `first` steps against one that was not."""
    cut = here([*words, "name=cut", f"steps={first}"], folder)
    learned = load(Checkpoints(cut / "checkpoints").latest())["learning"]["updates"]
    assert "begin again" not in elsewhere([f"resume={cut}", f"steps={last}"])
    ends = [Checkpoints(run / "checkpoints").latest() for run in (whole, cut)]
    assert [end.name for end in ends] == [f"step_{last:09d}"] * 2
    one, two = map(load, ends)
    assert one["learning"]["updates"] > learned > 0
    # Weights, slow critic, return norm, optimiser, ratio, random states, envs, what the
    # collector carries, the loop's place, counters and episodes, replay with its sampler.
    assert differences(one, two) == []
    assert {"random", "envs", "loop", "ratio", "optimizer", "report"} <= set(one["learning"])
    assert {"env", "carried"} <= set(one["learning"]["envs"])
    shown = [row for row in rows(cut) if row[0] > first]
    assert shown == [row for row in rows(whole) if row[0] > first]
    assert any("train_return" in row for _, row in shown), "episodes are compared as well"


def test_a_run_cut_in_two_is_bit_for_bit_the_run_in_one_go(whole: Path, tmp_path: Path) -> None:
    compare(whole, TOY, 24, 48, tmp_path)


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


def test_an_evaluation_that_is_repeated_is_logged_once(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*TOY, "steps=48"]
    evaluate = Report.evaluate

    def killed_after(report: Report, agent_steps: int) -> None:
        evaluate(report, agent_steps)
        if agent_steps not in killed_at:
            killed_at.append(agent_steps)
            raise Killed

    killed_at: list[int] = []
    monkeypatch.setattr(Report, "evaluate", killed_after)
    cut = tmp_path / "cut"
    for typed in ([*words, "name=cut"], [f"resume={cut}"]):
        with pytest.raises(Killed):
            here(typed, tmp_path)
    here([f"resume={cut}"], tmp_path)
    assert killed_at == [24, 48], "in the middle and at the end"
    assert rows(cut) == rows(whole)
    one, two = (
        [line.split(",")[:2] for line in (run / "metrics.csv").read_text().splitlines()]
        for run in (whole, cut)
    )
    assert one == two
    ends = [load(Checkpoints(run / "checkpoints").latest()) for run in (whole, cut)]
    assert differences(*ends) == []


@pytest.mark.rom
@pytest.mark.slow
def test_a_mario_run_cut_in_two_is_bit_equal_to_an_unbroken_one(tmp_path: Path) -> None:
    whole = here([*MARIO, "name=whole", "steps=168"], tmp_path)
    compare(whole, MARIO, 96, 168, tmp_path)


ENVS = {
    "counting": ["env=counting"],
    "corridor": ["env=toy", "env.cells=4", "env.max_steps=7"],
    "delayed": ["env=delayed", "env.delay=3"],
    "memory": ["env=memory", "env.delay=2"],
}


@pytest.mark.parametrize("kind", ENVS)
def test_a_resume_plays_the_transition_that_was_next(
    kind: str, tmp_path: Path
) -> None:
    options = [*ENVS[kind], "env.image_size=16"]
    tiny = make_tiny(*options, without=["env.length"])
    parts, _ = tiny.parts(tmp_path / "one")
    batches = iter(parts.collector)
    for _ in range(3):
        tiny.replay.extend(next(batches))
    path = parts.snapshot.save(parts, 24)
    expected = [next(batches).clone() for _ in range(4)]

    other = make_tiny(*options, "seed=7", seed=77, without=["env.length"])
    again, _ = other.parts(tmp_path / "two")
    next(iter(again.collector))
    restore(again, path)
    batches = iter(again.collector)
    for batch in expected:
        found = next(batches)
        assert set(found.keys(True, True)) == set(batch.keys(True, True))
        for key in batch.keys(True, True):
            assert torch.equal(found[key], batch[key]), key


def test_envs_that_cannot_be_saved_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ["env=cartpole", "collector.num_envs=2"]
    bare = ["env.image_size", "env.length", "encoder", "decoder"]
    tiny = make_tiny(*options, without=bare)
    parts, _ = tiny.parts(tmp_path)
    next(iter(parts.collector))
    path = parts.snapshot.save(parts, 8)
    why = "SerialEnv cannot be saved in mid-episode (its class is not `resumable`)"
    assert read(path, "learning")["envs"] == {"restarted": why}
    other = make_tiny(*options, without=bare)
    again, _ = other.parts(tmp_path)
    restore(again, path)
    assert capsys.readouterr().out == f"resume: episodes begin again, because {why}\n"


def test_another_number_of_envs_is_refused(tmp_path: Path) -> None:
    tiny = make_tiny()
    parts, _ = tiny.parts(tmp_path)
    state = env_state(parts.env, parts.collector)
    other = make_tiny("collector.num_envs=3")
    again, _ = other.parts(tmp_path)
    with pytest.raises(ValueError, match="steps has the shape .3. in this env of 3, the"):
        restore_env_state(state, again.env, again.collector)


def test_envs_saved_under_the_older_names_are_restored(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    parts, _ = make_tiny().parts(tmp_path)
    batches = iter(parts.collector)
    next(batches)
    saved = Saved.read(parts.snapshot.save(parts, 8))
    expected = next(batches).clone()
    state = saved.learning.pop("envs")
    saved.learning["worlds"] = {"described": state.pop("options"), "worlds": state.pop("env"), **state}
    again, _ = make_tiny(seed=77).parts(tmp_path)
    next(iter(again.collector))
    saved.restore(again)
    assert "begin again" not in capsys.readouterr().out
    assert torch.equal(next(iter(again.collector))["pixels"], expected["pixels"])


def test_a_checkpoint_without_envs_still_goes_on(tmp_path: Path) -> None:
    parts, _ = make_tiny().fill().parts(tmp_path)
    assert restore_env_state(None, parts.env, parts.collector) == "the checkpoint holds no envs"


def test_a_resume_from_an_older_checkpoint_starts_there(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    checkpoints = Checkpoints(run / "checkpoints")
    assert [p.name for p in checkpoints.all()] == ["step_000000024", "step_000000016"]
    here([f"resume={checkpoints.folder / 'step_000000016'}", "steps=20"], tmp_path)
    aside = run / "checkpoints" / "set_aside" / "step_000000024"
    said = capsys.readouterr().out
    assert f"step_000000024 is newer than step_000000016: moved to {aside}" in said
    assert (aside / "manifest.json").is_file()
    assert checkpoints.latest().name == "step_000000024"
    steps = [step for step, _ in rows(run)]
    assert steps == sorted(steps) and steps[-1] == 24, "what was shown of the other way is gone"


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


REFUSED = {
    "other networks": (["rssm.hidden_dim=12"], "does not fit this agent"),
    "other pictures": (["env.image_size=32"], "does not fit this agent"),
    "a size": (["size.deter=8"], "cannot be changed on a resume"),
    "a word for a number": (["steps=many"], "must be a whole number"),
}


def test_a_refused_resume_leaves_every_file_as_it_was(run: Path) -> None:
    before = files_of(run)
    earlier = run / "checkpoints" / "step_000000016"
    cfg = compose.compose_default(TOY)
    cfg.resume = str(earlier)
    for typed, message in REFUSED.values():
        with pytest.raises((CheckpointError, ValueError), match=message):
            train.run_training(cfg, [f"resume={earlier}", *typed])
        assert files_of(run) == before, typed


def test_a_resume_with_another_replay_keeps_the_records(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ["replay.capacity=3000", "collector.num_envs=3", "batch_length=5"]
    before = read(run / "checkpoints" / "step_000000024", "replay")
    opened = []
    monkeypatch.setattr(checkpoint_parts, "read", lambda *file: opened.append(file[1]) or read(*file))
    here([f"resume={run}", "steps=32", *typed], tmp_path)
    assert opened == ["replay"], "read once"
    held = len(before["records"]["reward"])
    assert f"replay is redistributed ({held} records" in capsys.readouterr().out
    after = read(run / "checkpoints" / "step_000000036", "replay")
    assert len(after["records"]["reward"]) >= held + 12
    steps = [step for step, _ in rows(run)]
    assert steps == sorted(steps) and steps[-1] == 36


def test_a_discount_typed_on_a_resume_is_learned_with(run: Path, tmp_path: Path) -> None:
    here([f"resume={run}", "steps=32", "discount=0.5", "discount_lambda=0.4"], tmp_path)
    text = (Checkpoints(run / "checkpoints").latest() / "config.yaml").read_text()
    assert "gamma: 0.5" in text and text.count("lmbda: 0.4") == 2
