"""What is swapped into a slot and does not fit is one clear line before the first step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from tiny import make_tiny, tiny_config
from torch import nn

from mario_dreamer.commands._parts import make_core
from mario_dreamer.config.contracts import rehearse
from mario_dreamer.networks.heads import Head
from mario_dreamer.networks.sequence_models import GRU

HEADS, LOSSES = "mario_dreamer.networks.heads", "mario_dreamer.losses"
IDENTITY = "torch.nn.Identity"


class FlatGRU(GRU):
    """A sequence model whose state is one number too narrow."""

    def forward(self, deter: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(deter, *inputs)[..., 1:]


class FlatEncoder(nn.Module):
    """It takes all dimensions but those of the frame for one."""

    def __init__(self, image_shape: tuple[int, ...], **options: object) -> None:
        super().__init__()
        self.shape, self.embed_dim = tuple(image_shape), math.prod(image_shape)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.reshape(-1, self.embed_dim)


class PlainActor(Head):
    """A head with a plain MLP's interface, made with an actor's sizes."""

    def __init__(self, feat_dim: int, action_dim: int) -> None:
        super().__init__(feat_dim, action_dim)


@pytest.mark.parametrize(
    ("slot", "target", "options", "said"),
    [
        ("encoder", "torch.nn.Linear", {}, "encoder cannot be built by torch.nn.Linear.*configs/enc"),
        ("encoder", IDENTITY, {}, "encoder: torch.*Identity lacks embed_dim. Expected a module: obs"),
        ("encoder", "nowhere.Encoder", {}, "No module named 'nowhere'.*has to be on PYTHONPATH"),
        ("encoder", "test_contracts.Nothing", {}, "Nothing.*There is no such class in it"),
        ("encoder", "test_contracts.FlatEncoder", {}, r"of \[2, 3, ...\] an embedding \[6, 768\] where"),
        ("decoder", IDENTITY, {}, "decoder: .*Identity lacks dist. Expected a module: .deter, stoch"),
        ("rssm", IDENTITY, {}, "rssm: .*Identity lacks deter_dim.*Expected the methods of .*RSSM"),
        ("rssm.sequence_model", IDENTITY, {"_partial_": True},
         "rssm.sequence_model: .*Identity failed with TypeError.*Expected a module: .deter, stoch, a"),
        ("rssm.sequence_model", "test_contracts.FlatGRU", {"_partial_": True},
         r"rssm.sequence_model: test_contracts.FlatGRU gives deter \[2, 15\] where \[2, 16\] is read"),
        ("reward", f"{HEADS}.Head", {"out_dim": 1},
         "reward: .*Head failed with NotImplementedError. Expected.*configs/head,"),
        ("reward", "torch.nn.Linear", {}, "reward cannot be built by torch.nn.Linear.*configs/head."),
        ("cont", IDENTITY, {}, "cont: .*Identity lacks dist.*Expected a module: feat -> param"),
        ("critic", "mario_dreamer.networks.action_heads.OneHotHead", {"action_dim": 3},
         r"critic: .*OneHotHead gives a mean \[2, 3\] where \[2, 1\] is read"),
        ("actor", "test_contracts.PlainActor", {},
         "actor: test_contracts.PlainActor lacks uniform, action_dtype. Expected a .*ActionHead"),
        ("actor", "mario_dreamer.networks.action_heads.ActionHead", {}, "actor: .*ActionHead failed"),
        ("optimizer", IDENTITY, {}, "optimizer: .*Identity lacks optimizer, step. Expected a .*Clipp"),
        ("optimizer.optimizer", IDENTITY, {"_partial_": True},
         "optimizer.optimizer: .*Identity lacks param_groups, step. Expected a torch.optim.Optimizer"),
        ("replay", IDENTITY, {}, "replay: .*Identity lacks extend, sample.*make_replay returns"),
        ("loss.critic", IDENTITY, {}, "loss.critic: .*Identity lacks set_keys.*LossModule"),
        ("loss.discount", IDENTITY, {}, "loss.discount: .*Identity lacks cont_target, per_step"),
        ("env", IDENTITY, {}, "env: expected a torchrl.envs.EnvBase, got Identity"),
    ],
)  # fmt: skip
def test_a_part_of_the_wrong_kind_is_one_clear_line(
    slot: str, target: str, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    cfg = OmegaConf.create(OmegaConf.to_container(tiny_config(), resolve=True))
    OmegaConf.update(cfg, slot, {"_target_": target, **options}, merge=False)
    with pytest.raises(ValueError, match=said) as raised:
        make_core(cfg, tmp_path)
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("slot", "value"),
    [("env", 3), ("encoder", "word"), ("rssm", None), ("reward", [1, 2]), ("actor", {"layers": 1}),
     ("optimizer", "word"), ("loss.actor", None)],
)  # fmt: skip
def test_a_slot_that_names_no_class_is_one_clear_line(slot: str, value: Any, tmp_path: Path) -> None:
    cfg = OmegaConf.create(OmegaConf.to_container(tiny_config(), resolve=True))
    OmegaConf.update(cfg, slot, value, merge=False)
    with pytest.raises(ValueError, match=rf"^{slot}=.* names no class\. Choose a file of configs/"):
        make_core(cfg, tmp_path)


def test_a_rehearsal_leaves_no_trace() -> None:
    agent = make_tiny().agent
    modules = torch.nn.ModuleList([agent.world_model, agent.actor, agent.critic])
    agent.critic.eval()
    before = {name: value.clone() for name, value in modules.state_dict().items()}
    modes = [module.training for module in modules.modules()]
    drawn = torch.get_rng_state()
    rehearse(agent)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert [module.training for module in modules.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in modules.state_dict().items())
    assert all(parameter.grad is None for parameter in modules.parameters())
