"""Checkpoints and options written before the package got its folders still work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf
from tiny import sign_files
from torchrl.envs import ExplorationType, set_exploration_type

from mario_dreamer.config.compose import compose_default
from mario_dreamer.config.load_agent import agent_of
from mario_dreamer.config.stored import MOVED, with_new_targets
from mario_dreamer.training.checkpoint_files import shipped_checkpoint

HERE = Path(__file__).parent / "before_move"
# Written by the code of commit a84b743: torch 2.15, one thread, seed 0.
ACTIONS = json.loads((HERE / "actions.json").read_text())
# Of the same agent, for a black and a white frame, one after the other; with any torch.
CHANCES = json.loads((HERE / "chances.json").read_text())


def agent_in(checkpoint: str | Path, precision: str = "auto") -> Any:
    cfg = OmegaConf.create(
        {"checkpoint": str(checkpoint), "runs_dir": "nowhere", "trust_config": False,
         "device": "cpu", "precision": precision, "threads": 1, "seed": 0, "env": {}}
    )  # fmt: skip
    return agent_of(cfg)


def first_actions(checkpoint: str | Path, steps: int = 50) -> list[int]:
    agent = agent_in(checkpoint)
    env = agent.make_env()
    with set_exploration_type(ExplorationType.RANDOM), torch.no_grad():
        played = env.rollout(steps, agent.policy, break_when_any_done=False)
    env.close()
    return played["action"].argmax(-1).flatten().tolist()


@pytest.mark.rom
def test_an_old_mario_configuration_acts_as_the_new_one(tmp_path: Path) -> None:
    old = tmp_path / "runs" / "old" / "checkpoints" / "step_000035328"
    shutil.copytree(shipped_checkpoint(), old)
    shutil.copy(HERE / "mario.yaml", old / "config.yaml")
    sign_files(old)
    text = (old / "config.yaml").read_text()
    assert "mario_dreamer.envs.mario.make_mario_env" in text and text.count("_target_") > 10
    assert first_actions(old, 12) == first_actions("shipped", 12)


@pytest.mark.skipif(torch.__version__ < "2.15", reason="draws other random numbers")
def test_a_toy_agent_draws_the_actions_of_before_the_move() -> None:
    assert first_actions(HERE / "toy") == ACTIONS["toy"]


def test_a_toy_agent_acts_as_before_the_move() -> None:
    assert "mario_dreamer.envs.toy.make_toy_env" in (HERE / "toy" / "config.yaml").read_text()
    agent = agent_in(HERE / "toy", "fp32")
    state = agent.make_env().reset()
    found = []
    with torch.no_grad():
        for shade in (0, 255):
            state["pixels"].fill_(shade)
            point = torch.full((1, agent.policy.world_model.rssm.stoch_shape[0], 1), 0.5)
            deter, stoch, _, _ = agent.policy.observe(state, point)
            dist = agent.policy.distribution(deter, stoch)
            found.append(dist.probs.flatten().tolist())
            state["deter"], state["stoch"], state["prev_action"] = deter, stoch, dist.mode.float()
            state["is_init"].fill_(False)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(CHANCES["toy"]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_every_new_target_exists_and_every_old_one_does_not(old: str, new: str) -> None:
    assert callable(get_object(new))
    with pytest.raises(Exception, match="Error"):
        get_object(old)


def test_an_old_target_typed_now_builds_the_new_class() -> None:
    cfg = compose_default(["experiment=debug", "env._target_=mario_dreamer.envs.toy.make_toy_env"])
    assert cfg.env._target_ == "mario_dreamer.envs.toy.corridor.make_toy_env"


def test_a_configuration_without_old_targets_is_returned_itself() -> None:
    cfg = OmegaConf.create({"a": [{"_target_": "torch.nn.Linear"}], "b": "${a}"})
    assert with_new_targets(cfg) is cfg


def test_old_targets_in_lists_are_found_and_references_stay() -> None:
    old = {"n": 3, "a": [{"_target_": "mario_dreamer.optim.LaProp", "lr": "${n}"}]}
    cfg = with_new_targets(OmegaConf.create(old))
    assert cfg.a[0]._target_ == "mario_dreamer.training.optim.LaProp"
    assert OmegaConf.to_container(cfg)["a"][0]["lr"] == "${n}"
