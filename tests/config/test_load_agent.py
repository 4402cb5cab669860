"""A checkpoint is loaded for playing, without optimizer, losses and replay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf, open_dict
from tiny import make_tiny, sign_files

import mario_dreamer
from mario_dreamer import cli
from mario_dreamer.commands import evaluate
from mario_dreamer.config import build
from mario_dreamer.config import load_agent as module
from mario_dreamer.config.command_line import checked_words
from mario_dreamer.config.load_agent import load_agent
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import CheckpointError

OPTIONS = ["env=toy", "env.image_size=16", "env.cells=4", "env.max_steps=7", "average_rate=0.1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tiny = make_tiny(*OPTIONS, "prefill=48", without=["env.length"]).fill()
    for _ in range(2):  # after one, the average is the latest
        tiny.learner.update(tiny.replay.sample())
    folder = tmp_path_factory.mktemp("runs") / "toy"
    parts, _ = tiny.parts(folder / "checkpoints")
    parts.snapshot.save(parts, 48)
    return folder


@pytest.fixture
def lent(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may spoil."""
    return shutil.copytree(run, tmp_path / "runs" / "toy")


@pytest.mark.rom
def test_python_in_five_lines() -> None:
    agent = mario_dreamer.load_agent("shipped")
    env = agent.make_env(max_steps=8)
    episode = agent.play(env)
    env.close()
    assert episode.frames.shape[0] == 8 and episode.frames.dtype == torch.uint8
    assert episode.stats["length"] == 8


def test_neither_optimizer_nor_replay_is_built_or_read(
    lent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = lent / "checkpoints" / "step_000000048"
    for name in ("replay.pt", "learning.pt"):
        (step / name).unlink()
    manifest = json.loads((step / "manifest.json").read_text())
    manifest["files"] = {k: v for k, v in manifest["files"].items() if (step / k).exists()}
    (step / "manifest.json").write_text(json.dumps(manifest))
    for name in ("make_learner", "make_replay", "make_collector"):
        monkeypatch.setattr(build, name, lambda *_: pytest.fail(f"{name} was called"))
    agent = load_agent(step)
    assert (agent.steps, agent.sha256) == (48, manifest["files"]["agent.pt"]["sha256"])
    assert agent.play().frames.shape[1:] == (3, 16, 16)


def test_averaged_weights_play_unless_weights_is_latest(run: Path) -> None:
    average, latest = (load_agent(run, weights=which) for which in ("average", "latest"))
    one, two = (agent.policy.actor.state_dict() for agent in (average, latest))
    assert any(not torch.equal(one[name], two[name]) for name in one)
    with pytest.raises(ValueError, match="expected average or latest"):
        load_agent(run, weights="newest")


def test_options_of_the_env_are_changed_or_refused_by_name(run: Path) -> None:
    agent = load_agent(run, env={"max_steps": 3})
    assert agent.play().stats["length"] <= 3
    with pytest.raises(ValueError, match="env.stage is no option of this agent's env; it has image_size"):
        load_agent(run, env={"stage": "1-2"})
    with pytest.raises(CheckpointError, match="env.image_size=32 changes what the agent was built"):
        load_agent(run, env={"image_size": 32})
    with pytest.raises(ValueError, match="env.max_steps must be a whole number"):
        load_agent(run, env={"max_steps": "many"})


def test_an_env_without_a_limit_of_its_own_is_cut_off_at_one(run: Path) -> None:
    agent = load_agent(run)
    with open_dict(agent.cfg.env):
        del agent.cfg.env["max_steps"]
    changes = agent.truncating(3)
    assert changes == {"max_steps": 3}
    episode = agent.play(agent.make_env(**changes))
    assert episode.stats["length"] <= 3


def test_a_checkpoint_replaced_while_loading_is_found_again(
    lent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, find, calls = lent / "checkpoints", module.find_checkpoint, []

    def pruned_after_the_first_look(where: str, runs_dir: str) -> Path | None:
        found = find(where, runs_dir)
        if not calls:
            (folder / "step_000000048").rename(folder / "step_000000056")
        calls.append(found)
        return found

    monkeypatch.setattr(module, "find_checkpoint", pruned_after_the_first_look)
    assert load_agent("latest", runs_dir=lent.parent).checkpoint.name == "step_000000056"


def test_evaluate_loads_once_and_stores_step_and_sum(
    lent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    play = evaluate.play_episodes

    def pruned_while_playing(*args: object, **options: object) -> object:
        shutil.rmtree(lent / "checkpoints", ignore_errors=True)
        return play(*args, **options)

    monkeypatch.setattr(evaluate, "play_episodes", pruned_while_playing)
    typed = [f"checkpoint={lent}", "episodes=2", "num_envs=2", "track=false", "env.max_steps=5"]
    cli.main(["evaluate", *typed])
    results = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    assert results["agent_steps"] == 48 and len(results["provenance"]["agent_sha256"]) == 64
    assert [entry["name"] for entry in results["results"]] == ["sampled", "greedy"]
    assert "agent step 48, sha256" in capsys.readouterr().out


def test_the_best_checkpoint_plays(lent: Path) -> None:
    checkpoints = Checkpoints(lent / "checkpoints")
    checkpoints.save_best(48, checkpoints.latest(), {})
    assert load_agent("best", runs_dir=lent.parent).checkpoint == lent / "checkpoints" / "best"


@pytest.mark.parametrize(("prefill", "said"), [(100, True), (48, False)])
def test_an_agent_that_has_learned_nothing_says_so(
    prefill: int, said: bool, lent: Path, capsys: pytest.CaptureFixture
) -> None:
    config = lent / "checkpoints" / "step_000000048" / "config.yaml"
    config.write_text(config.read_text().replace("prefill: 48\n", f"prefill: {prefill}\n"))
    sign_files(config.parent)
    options = {"runs_dir": str(lent.parent), "trust_config": False, "device": "cpu", "env": {}}
    options |= {"checkpoint": "auto", "precision": "auto", "threads": 1, "seed": 0}
    assert module.agent_of(OmegaConf.create(options)).steps == 48
    hint = f"has learned nothing: it stands at agent step 48, and learning begins at {prefill}; checkpoint="
    assert (hint in capsys.readouterr().out) is said


def test_options_of_the_env_need_no_plus_sign() -> None:
    assert checked_words("play", ["env.stage=1-2", "seed=3"]) == ["++env.stage=1-2", "seed=3"]
