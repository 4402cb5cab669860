"""A new run starts from chosen weights of another run's checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tiny import Tiny, make_tiny

from mario_dreamer.commands import train
from mario_dreamer.config import compose
from mario_dreamer.training.checkpoint import Checkpoints
from mario_dreamer.training.checkpoint_files import CheckpointError, read
from mario_dreamer.training.init_from import INIT_PARTS, init_from

OPTIONS = ["critic.outscale=1.0", "average_rate=0.5"]


def weights(tiny: Tiny) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in tiny.learner.modules.state_dict().items()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tiny = make_tiny(*OPTIONS).fill()
    tiny.learner.update(tiny.replay.sample())
    parts, _ = tiny.parts(tmp_path_factory.mktemp("source"))
    return parts.snapshot.save(parts, 48)


@pytest.mark.parametrize("chosen", [list(INIT_PARTS), ["world_model"], ["actor", "critic"]])
def test_the_chosen_parts_and_what_follows_them_are_copied(chosen: list[str], source: Path) -> None:
    saved, tiny = read(source, "agent"), make_tiny(*OPTIONS, seed=5)
    before = weights(tiny)
    init_from(tiny.learner.modules, source, chosen)
    for name, value in weights(tiny).items():
        part = name.removeprefix("average.").replace("slow_critic.", "critic.")
        if part.split(".")[0] in chosen:
            assert torch.equal(value, saved[part]), name
        else:
            assert torch.equal(value, before[name]), name
    assert any(not torch.equal(before[name], value) for name, value in weights(tiny).items())


def test_a_checkpoint_of_other_sizes_is_refused_in_one_line(source: Path) -> None:
    tiny = make_tiny(*OPTIONS, "size.units=16")
    before = weights(tiny)
    with pytest.raises(CheckpointError, match=r"does not fit this run: world_model\.\S+ is \[") as refused:
        init_from(tiny.learner.modules, source, ["world_model", "actor"])
    assert "\n" not in str(refused.value) and "init_parts" in str(refused.value)
    assert all(torch.equal(value, before[name]) for name, value in weights(tiny).items())


def test_a_part_that_does_not_exist_is_refused(source: Path) -> None:
    modules = make_tiny(*OPTIONS).learner.modules
    for parts in ([], ["actr"], list("actor")):
        with pytest.raises(ValueError, match="expected some of world_model, actor, critic"):
            init_from(modules, source, parts)


def test_a_run_starts_from_the_weights_of_another_and_resumes(source: Path, tmp_path: Path) -> None:
    lent = shutil.copytree(source, tmp_path / "lent")
    typed = [
        *OPTIONS, "steps=8", "prefill=100", "save_every=8", "log_every=0", "eval_every=0",
        "save_model=false", f"runs_dir={tmp_path}", "name=second", f"init_from={lent}",
    ]  # fmt: skip
    cfg = make_tiny(*typed).cfg
    folder = Path(train.run_training(cfg, typed)["folder"])
    first = Checkpoints(folder / "checkpoints").latest()
    assert first.name == "step_000000008"
    saved, copied = read(source, "agent"), read(first, "agent")
    assert all(torch.equal(saved[k], copied[k]) for k in saved if k.startswith(INIT_PARTS))
    shutil.rmtree(lent)  # a resume must not start from it again
    resumed = compose.compose_default()
    resumed.resume = str(folder)
    train.run_training(resumed, [f"resume={folder}", "steps=16"])
    assert Checkpoints(folder / "checkpoints").latest().name == "step_000000016"
