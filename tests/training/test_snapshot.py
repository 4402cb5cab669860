from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import Tiny, make_tiny, restore
from torchrl.checkpoint import GlobalRNGState

from mario_dreamer.training.checkpoint_files import CheckpointError, read
from mario_dreamer.training.loop import learn
from mario_dreamer.training.snapshot import load_weights, restore_random_states


def updates(tiny: Tiny, number: int) -> list[float]:
    return [float(learn(tiny.replay, tiny.learner)["total"]) for _ in range(number)]


def weights(tiny: Tiny) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in tiny.learner.modules.state_dict().items()}


def networks(tiny: Tiny) -> torch.nn.ModuleDict:
    agent = tiny.agent
    parts = {"world_model": agent.world_model, "actor": agent.actor, "critic": agent.critic}
    return torch.nn.ModuleDict(parts)


CHOICES = {
    "nature": ["rssm/sequence_model=block_gru", "replay=online", "optimizer.warmup=10"],
    "seed": ["loss=seed_v1", "rssm=rssm_v1", "optimizer=adam", "replay.latents=false"],
    "one batch ahead": ["replay.prefetch=true"],
}


@pytest.mark.parametrize("choice", CHOICES)
def test_a_resume_learns_bit_for_bit_what_an_unbroken_run_learns(
    choice: str, tmp_path: Path
) -> None:
    options = CHOICES[choice]
    tiny = make_tiny(*options).fill()
    updates(tiny, 2)
    parts, _ = tiny.parts(tmp_path)
    path = parts.snapshot.save(parts, 48)
    expected = updates(tiny, 2)

    other = make_tiny(*options, seed=77)
    random.random(), np.random.rand(), torch.rand(3)
    again, _ = other.parts(tmp_path)
    assert restore(again, path) == 48
    assert updates(other, 2) == expected
    one, two = weights(tiny), weights(other)
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    assert "return_norm.low" in one and "slow_critic.head.mlp.out.weight" in one
    assert other.learner.updates == 4
    assert torch.equal(tiny.replay.sample()["index"], other.replay.sample()["index"])


def test_a_checkpoint_holds_all_that_a_run_goes_on_from(tmp_path: Path) -> None:
    tiny = make_tiny().fill()
    parts, _ = tiny.parts(tmp_path)
    parts.ratio.due(100)
    parts.report.episodes = 5
    path = parts.snapshot.save(parts, 48)
    learning = read(path, "learning")
    assert learning["agent_steps"] == 48 and learning["run_id"] == "run-1"
    assert learning["ratio"] == {"last_step": 100, "owed": 0.0}
    assert learning["report"]["episodes"] == 5
    assert (path / "config.yaml").read_text() == parts.snapshot.config
    assert {file.name for file in path.iterdir()} == {
        "agent.pt", "learning.pt", "replay.pt", "config.yaml", "manifest.json",
    }  # fmt: skip


def test_a_checkpoint_of_another_size_is_refused_with_the_cure(tmp_path: Path) -> None:
    parts, _ = make_tiny().parts(tmp_path)
    path = parts.snapshot.save(parts, 1)
    other = make_tiny("size.deter=24")
    again, _ = other.parts(tmp_path)
    with pytest.raises(CheckpointError, match="does not fit this agent.*config.yaml"):
        restore(again, path)
    with pytest.raises(CheckpointError, match="does not fit this agent"):
        load_weights(networks(other), path)


def test_an_agent_alone_is_loaded_with_or_without_its_average(tmp_path: Path) -> None:
    options = ["critic.outscale=1.0", "average_rate=0.1"]
    tiny = make_tiny(*options).fill()
    updates(tiny, 2)
    parts, _ = tiny.parts(tmp_path)
    path = parts.snapshot.save(parts, 1)
    saved = weights(tiny)
    for averaged in (True, False):
        other = make_tiny(*options, seed=5)
        load_weights(networks(other), path, averaged)
        loaded = networks(other).state_dict()
        for name, value in loaded.items():
            source = f"average.{name}" if averaged and not name.startswith("critic.") else name
            assert torch.equal(value, saved[source]), name
    assert any(not torch.equal(saved[f"average.{k}"], saved[k]) for k in loaded if "actor" in k)


def draw() -> tuple[float, ...]:
    return random.random(), np.random.rand(), torch.rand(1).item(), random.gauss(0, 1)


@pytest.mark.parametrize("older", [False, True])
def test_random_numbers_go_on_where_they_were(older: bool, tmp_path: Path) -> None:
    states = GlobalRNGState().state_dict()
    if older:  # as checkpoints held them before
        states = {"torch": states["torch_cpu"], "numpy": list(states["numpy"]),
                  "python": [3, list(states["python"][1]), states["python"][2]]}  # fmt: skip
    torch.save(states | {"torch_cuda": [torch.zeros(16, dtype=torch.uint8)]}, tmp_path / "random.pt")
    before = draw()
    restore_random_states(torch.load(tmp_path / "random.pt", weights_only=True))
    assert draw() == before
