"""Every accepted key of every loss can be renamed, and the renamed one is read."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from tiny import Tiny, make_tiny, random_records
from torch import Tensor, nn
from torchrl.objectives import LossModule

from mario_dreamer.agent.distribution_module import DistributionModule
from mario_dreamer.agent.world_model import WorldModel
from mario_dreamer.losses import ActorLoss, CriticLoss, WorldModelLoss
from mario_dreamer.networks.action_heads import OneHotHead
from mario_dreamer.networks.heads import TwoHotHead

LOSSES = (ActorLoss, CriticLoss, WorldModelLoss)
CASES = [
    (loss, field.name)
    for loss in LOSSES
    for field in dataclasses.fields(loss._AcceptedKeys)  # what `set_keys` takes
]


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    return make_tiny("actor.outscale=1.0", "critic.outscale=1.0", "reward.outscale=1.0")


class Renaming(nn.Module):
    """A world model that writes its outputs under other names."""

    def __init__(self, world_model: WorldModel, names: dict[str, str]) -> None:
        super().__init__()
        self.inner, self.names = world_model, names
        self.in_keys, self.rssm = world_model.in_keys, world_model.rssm
        self.decoders, self.reward = world_model.decoders, world_model.reward
        self.cont = world_model.cont

    def forward(self, records: TensorDictBase) -> TensorDictBase:
        found = self.inner(records)
        for old, new in self.names.items():
            found.rename_key_(old, new)
        return found


def rollouts() -> TensorDict:
    return TensorDict(
        feat=torch.randn(6, 4, 28), action=torch.eye(3)[torch.randint(3, (6, 3))],
        advantage=torch.randn(6, 3, 1), weight=torch.rand(6, 4, 1),
        lambda_return=torch.randn(6, 3, 1), batch_size=[6],
    )  # fmt: skip


def losses_of(kind: type[LossModule], tiny: Tiny, names: dict[str, str]) -> dict[str, Tensor]:
    """Compute a loss on the same random data, with some keys renamed in data and loss."""
    torch.manual_seed(0)
    dream, records = rollouts(), random_records(2, 3)
    records["is_last"][0, 1] = records["is_terminal"][0, 1] = True
    replayed = records.set("feat", torch.randn(2, 3, 28))
    for old, new in names.items():
        for data in (dream, records):
            if old in data:
                data.rename_key_(old, new)
    torch.manual_seed(1)
    if kind is WorldModelLoss:
        written = {key: names[key] for key in ("post_logits", "prior_logits") if key in names}
        loss = WorldModelLoss(Renaming(tiny.agent.world_model, written), free_nats=0.0)
        loss.set_keys(**names)
        return dict(loss(records)[0].items())
    if kind is ActorLoss:
        loss = ActorLoss(tiny.agent.actor)
        loss.set_keys(**names)
        return dict(loss(dream).items())
    loss = CriticLoss(tiny.agent.critic, tiny.learner.slow_critic)
    loss.set_keys(**names)
    return dict(loss(dream, replayed).items())


@pytest.mark.parametrize(("kind", "key"), CASES, ids=lambda x: getattr(x, "__name__", x))
def test_a_renamed_key_gives_the_same_loss(
    tiny: Tiny, kind: type[LossModule], key: str
) -> None:
    expected = losses_of(kind, tiny, {})
    found = losses_of(kind, tiny, {key: "renamed"})
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


@pytest.mark.parametrize("kind", LOSSES)
def test_all_keys_of_a_loss_can_be_renamed_at_once(tiny: Tiny, kind: type[LossModule]) -> None:
    names = {key: f"my_{key}" for loss, key in CASES if loss is kind}
    expected, found = losses_of(kind, tiny, {}), losses_of(kind, tiny, names)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_a_head_reads_the_keys_that_it_names() -> None:
    actor = DistributionModule(OneHotHead(5, action_dim=3), ["belief"], "action")
    critic = DistributionModule(TwoHotHead(5), ["belief"], "value")
    dream = rollouts().exclude("feat").set("belief", torch.randn(6, 4, 5))
    assert "belief" in ActorLoss(actor).in_keys and "feat" not in ActorLoss(actor).in_keys
    ActorLoss(actor)(dream)["loss_actor"].backward()
    CriticLoss(critic)(dream)["loss_critic"].backward()
    assert all(p.grad is not None for p in [*actor.parameters(), *critic.parameters()])


def test_a_head_may_read_several_keys() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = OneHotHead(8, action_dim=3)

        def forward(self, deter: Tensor, stoch: Tensor) -> Tensor:
            return self.head(torch.cat([deter, stoch.flatten(-2)], -1))

        def dist(self, params: Tensor) -> object:
            return self.head.dist(params)

    actor = DistributionModule(Both(), ["deter", "stoch"], "action")
    dream = rollouts().update({"deter": torch.randn(6, 4, 2), "stoch": torch.rand(6, 4, 2, 3)})
    assert bool(ActorLoss(actor)(dream)["loss_actor"].isfinite())
