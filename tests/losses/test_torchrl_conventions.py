"""What a user of TorchRL's own losses expects of ours: masks, plain distributions, clear errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictModuleBase
from tiny import make_tiny, random_records
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal
from torchrl.objectives import LossModule

from mario_dreamer.losses import ActorLoss, CriticLoss, Discount, WorldModelLoss

MASK = ("collector", "mask")  # TorchRL's SliceSampler(pad_output=True) writes it


class Head(TensorDictModuleBase):
    """A linear layer on feat with a distribution that the test chooses."""

    def __init__(self, size: int, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net, self.make = nn.Linear(5, size), make
        self.in_keys, self.out_keys = ["feat"], []

    def get_dist(self, tensordict: TensorDict) -> Any:
        return self.make(self.net(tensordict["feat"]))


class Model(TensorDictModuleBase):
    """A world model of vectors without memory."""

    in_keys, out_keys = ["seen"], ["feat", "post_logits", "prior_logits"]

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 5 + 12 + 12)

    def forward(self, tensordict: TensorDict) -> TensorDict:
        feat, post, prior = self.net(tensordict["seen"]).split([5, 12, 12], -1)
        logits = {"post_logits": post.unflatten(-1, (3, 4)),
                  "prior_logits": prior.unflatten(-1, (3, 4))}  # fmt: skip
        return tensordict.update({"feat": feat, **logits})


def loss_of(event: Callable[[Any], Any], **options: Any) -> WorldModelLoss:
    """A foreign world model's loss, each normal distribution handed to `event`."""
    torch.manual_seed(0)
    normal = lambda loc: event(Normal(loc, 1.0))  # noqa: E731
    cont = Head(1, lambda logits: event(Bernoulli(logits=logits, validate_args=False)))
    options.setdefault("discount", Discount(0.9, learned=False))
    return WorldModelLoss(Model(), {"seen": Head(2, normal)}, Head(1, normal), cont, **options)


def records(length: int = 4) -> TensorDict:
    torch.manual_seed(1)
    return TensorDict(
        seen=torch.randn(3, length, 2), reward=torch.randn(3, length, 1),
        is_terminal=torch.zeros(3, length, 1, dtype=torch.bool), batch_size=[3, length],
    )  # fmt: skip


def padded(data: TensorDict, real: int, wrong: float) -> TensorDict:
    """Make all but the first `real` steps padding that would cost a lot."""
    mask = torch.ones(*data.shape, 1, dtype=torch.bool)
    mask[:, real:] = False
    data["reward"][:, real:] = wrong
    return data.set(MASK, mask)


def test_padding_counts_in_no_term_of_the_world_model() -> None:
    loss = loss_of(lambda dist: Independent(dist, 1))
    expected, _ = loss(records()[:, :2])
    found, _ = loss(padded(records(), 2, 1e6))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)
    loss.loss_mask_key = None
    assert float(loss(padded(records(), 2, 1e6))[0]["loss_reward"].detach()) > 1e9


def rollouts() -> TensorDict:
    torch.manual_seed(2)
    return TensorDict(
        feat=torch.randn(6, 4, 5), lambda_return=torch.randn(6, 3, 1), weight=torch.ones(6, 4, 1),
        action=torch.randn(6, 3, 2), advantage=torch.randn(6, 3, 1), batch_size=[6],
    )  # fmt: skip


@pytest.mark.parametrize("kind", [ActorLoss, CriticLoss])
def test_masked_rollouts_count_in_no_loss(kind: type[LossModule]) -> None:
    head = Head(2 if kind is ActorLoss else 1, lambda loc: Independent(Normal(loc, 1.0), 1))
    loss = kind(head)
    name = loss.out_keys[0]
    expected = loss(rollouts()[:4])[name]
    data = rollouts().set(MASK, torch.tensor([[True]] * 4 + [[False]] * 2))
    torch.testing.assert_close(loss(data)[name], expected)


def test_padding_counts_in_no_replayed_value() -> None:
    loss = CriticLoss(Head(1, lambda loc: Independent(Normal(loc, 1.0), 1)))
    whole = records().set("feat", torch.randn(3, 4, 5))
    whole["is_last"] = torch.zeros(3, 4, 1, dtype=torch.bool)
    whole["is_last"][:, 2] = True
    starts = TensorDict(feat=torch.randn(12, 3, 5), lambda_return=torch.randn(12, 2, 1),
                        weight=torch.ones(12, 3, 1), batch_size=[12])  # fmt: skip
    short = starts.reshape(3, 4)[:, :3].reshape(-1)
    expected = loss(short, whole[:, :3].clone())["loss_critic_replay"]
    found = loss(starts, padded(whole, 3, 1e6))["loss_critic_replay"]
    # The third record is real but its episode's last: it has no successor and is not counted as 0.
    torch.testing.assert_close(found * 3, expected * 2)


def test_a_distribution_per_number_costs_what_their_sum_costs() -> None:
    expected, _ = loss_of(lambda dist: Independent(dist, 1))(records())
    found, _ = loss_of(lambda dist: dist)(records())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)
    none, _ = loss_of(lambda dist: dist, reduction="none")(records())
    assert none["loss_recon"].shape == none["loss_cont"].shape == (3, 4)


def test_a_critic_per_number_costs_what_their_sum_costs() -> None:
    torch.manual_seed(3)
    critic = Head(1, lambda loc: Independent(Normal(loc, 1.0), 1))
    expected = CriticLoss(critic, critic)(rollouts()[:3])["loss_critic"]  # as many as steps
    critic.make = lambda loc: Normal(loc, 1.0)
    torch.testing.assert_close(CriticLoss(critic, critic)(rollouts()[:3])["loss_critic"], expected)


def test_a_model_in_double_precision_learns() -> None:
    loss = loss_of(lambda dist: Independent(dist, 1)).double()
    data = records()
    data["seen"], data["reward"] = data["seen"].double(), data["reward"].double()
    terms, _ = loss(data)
    assert terms["loss_recon"].dtype == torch.float64
    terms["loss_recon"].backward()


def test_the_entropy_scale_is_set_as_in_torchrls_losses() -> None:
    loss = ActorLoss(Head(2, lambda loc: Independent(Normal(loc, 1.0), 1)), entropy_scale=0.1)
    before = loss(rollouts())
    buffer = loss.entropy_scale
    loss.entropy_scale = 0.3
    after = loss(rollouts())
    assert loss.entropy_scale is buffer, "a recorded CUDA graph reads the same tensor"
    change = after["loss_actor"] - before["loss_actor"]
    torch.testing.assert_close(change, -0.2 * after["entropy"])


def test_torchrl_reads_and_writes_the_net_of_a_loss() -> None:
    make = lambda loc: Independent(Normal(loc, 1.0), 1)  # noqa: E731
    loss, other = ActorLoss(Head(2, make)), Head(2, make)
    assert loss.get_stateful_net("actor") is loss.actor
    loss.from_stateful_net("actor", other)
    assert torch.equal(loss.actor.net.weight, other.net.weight)


MODULES = [nn.Linear(5, 1), TensorDictModule(nn.Linear(5, 1), ["feat"], ["value"])]


@pytest.mark.parametrize("module", MODULES, ids=lambda x: type(x).__name__)
def test_a_module_without_a_distribution_is_refused(module: nn.Module) -> None:
    model, head = Model(), Head(1, lambda loc: Normal(loc, 1.0))
    for make in (ActorLoss, CriticLoss, lambda x: CriticLoss(head, x),
                 lambda x: WorldModelLoss(model, {"seen": x}, head, head),
                 lambda x: WorldModelLoss(model, {"seen": head}, head, x)):  # fmt: skip
        with pytest.raises(TypeError, match=f"get_dist.*got a {type(module).__name__}"):
            make(module)


def test_an_empty_batch_is_called_empty() -> None:
    with pytest.raises(ValueError, match=r"reward must be .*got \[0, 3, 1\].*, which is empty"):
        make_tiny().learner.world_model_loss(random_records()[:0, :3])


def test_a_single_sequence_is_refused_by_its_reward() -> None:
    """As a frame [T, C, H, W] it would pass for a batch [B, T, *]."""
    with pytest.raises(ValueError, match=r"reward must be \[B, T, 1\]"):
        make_tiny().learner.world_model_loss(random_records()[0])
