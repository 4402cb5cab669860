"""Our losses around TorchRL's own modules: what a foreign project would do."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import (
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
    TensorDictModuleBase,
    TensorDictSequential,
)
from tiny import gradients
from torch import Tensor, distributions, nn
from torchrl.envs import ExplorationType, set_exploration_type
from torchrl.modules import OneHotCategorical as TorchRLOneHot
from torchrl.modules import ProbabilisticActor

from mario_dreamer.agent.imagination import Imagination
from mario_dreamer.agent.returns import Returns
from mario_dreamer.losses import ActorLoss, CriticLoss, WorldModelLoss
from mario_dreamer.losses.targets import Discount
from mario_dreamer.networks.rssm import RSSM
from mario_dreamer.networks.sequence_models import GRU

FEAT, ACTIONS, SIDE = 28, 3, 6


class Scalar(distributions.Independent):
    """A normal distribution over one number, built from its mean: log_prob [...], mean [..., 1]."""

    def __init__(self, loc: Tensor) -> None:
        super().__init__(distributions.Normal(loc, 1.0), 1)


class IndependentBernoulli(distributions.Independent):
    """A Bernoulli over one number."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(distributions.Bernoulli(logits=logits, validate_args=False), 1)


def head(out_key: str, params_key: str, kind: type, size: int) -> ProbabilisticTensorDictSequential:
    network = TensorDictModule(nn.Linear(FEAT, size), in_keys=["feat"], out_keys=[params_key])
    said = ProbabilisticTensorDictModule(
        in_keys={"logits" if kind is not Scalar else "loc": params_key},
        out_keys=[out_key],
        distribution_class=kind,
        default_interaction_type="mean",
    )
    return ProbabilisticTensorDictSequential(network, said)


class Watcher(TensorDictModuleBase):
    """A foreign world model of sensors: linear encoder around our RSSM."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(SIDE, 8)
        self.rssm = RSSM(GRU, 8, ACTIONS, 16, (3, 4), 8)
        self.in_keys = ["sensors", "prev_action", "is_first"]
        self.out_keys = ["deter", "stoch", "feat", "post_logits", "prior_logits"]

    def forward(self, tensordict: TensorDict) -> TensorDict:
        deter, stoch, post, prior = self.rssm(
            self.embed(tensordict["sensors"]), tensordict["prev_action"], tensordict["is_first"]
        )
        feat = self.rssm.feat(deter, stoch)
        values = (deter, stoch, feat, post, prior)
        return tensordict.update(dict(zip(self.out_keys, values, strict=True)))


def foreign_agent() -> dict[str, nn.Module]:
    decoder = ProbabilisticTensorDictSequential(
        TensorDictModule(nn.Linear(FEAT, SIDE), in_keys=["feat"], out_keys=["loc"]),
        ProbabilisticTensorDictModule(
            in_keys=["loc"], out_keys=["redrawn"], distribution_class=Scalar
        ),
    )
    actor = ProbabilisticActor(
        TensorDictModule(nn.Linear(FEAT, ACTIONS), in_keys=["feat"], out_keys=["logits"]),
        in_keys=["logits"], out_keys=["action"], distribution_class=TorchRLOneHot,
    )  # fmt: skip
    return {
        "world_model": Watcher(),
        "decoder": decoder,
        "reward": head("reward", "reward_loc", Scalar, 1),
        "cont": head("cont", "cont_logit", IndependentBernoulli, 1),
        "critic": head("value", "value_loc", Scalar, 1),
        "actor": actor,
    }


def records() -> TensorDict:
    flag = torch.zeros(2, 4, 1, dtype=torch.bool)
    return TensorDict(
        sensors=torch.randn(2, 4, SIDE), prev_action=torch.eye(3)[torch.randint(3, (2, 4))],
        is_first=flag.clone(), is_last=flag.clone(), is_terminal=flag, reward=torch.randn(2, 4, 1),
        batch_size=[2, 4],
    )  # fmt: skip


def test_a_foreign_agent_learns_with_our_losses() -> None:
    agent = foreign_agent()
    discount = Discount(0.99, learned=False)  # torch's Bernoulli takes hard labels
    model_loss = WorldModelLoss(
        agent["world_model"], {"sensors": agent["decoder"]}, agent["reward"], agent["cont"],
        discount=discount,
    )  # fmt: skip
    terms, posterior = model_loss(records())
    dream = Imagination(agent["world_model"].rssm, agent["actor"], 3)(
        posterior.select("deter", "stoch").detach().reshape(-1)
    )
    dream = Returns(agent["reward"], agent["cont"], agent["critic"], discount)(dream)
    terms.update(ActorLoss(agent["actor"])(dream))
    terms.update(CriticLoss(agent["critic"], agent["critic"])(dream, posterior))
    sum(value for name, value in terms.items() if name.startswith("loss_")).backward()
    assert set(dream["action"].sum(-1).unique().tolist()) == {1}
    assert dream["advantage"].shape == (8, 3, 1)
    for name, module in agent.items():
        assert gradients(module), f"{name} learns nothing"
    assert all(bool(torch.isfinite(value)) for value in terms.values())


@pytest.mark.parametrize("kind", [ExplorationType.RANDOM, ExplorationType.DETERMINISTIC])
def test_returns_take_the_mean_whatever_torchrl_would_draw(kind: ExplorationType) -> None:
    agent = foreign_agent()
    heads = [agent[name] for name in ("reward", "cont", "critic")]
    states = TensorDict(feat=torch.randn(5, 4, FEAT), batch_size=[5])
    with set_exploration_type(kind):  # of a Bernoulli TorchRL draws, or takes the mode
        found = Returns(*heads, Discount(learned=False))(states.copy())
    for name, head in zip(("reward", "cont", "value"), heads, strict=True):
        torch.testing.assert_close(found[name], head.get_dist(states).mean, msg=name)


def test_a_foreign_actors_actions_are_samples_in_imagination() -> None:
    agent = foreign_agent()
    start = TensorDict(deter=torch.zeros(200, 16), stoch=torch.zeros(200, 3, 4), batch_size=[200])
    action = Imagination(agent["world_model"].rssm, agent["actor"], 1)(start)["action"]
    assert int((action.sum((0, 1)) > 0).sum()) > 1, "the same state gave one action 200 times"


def test_our_losses_sit_in_a_torchrl_sequence() -> None:
    agent = foreign_agent()
    sequence = TensorDictSequential(agent["world_model"], agent["critic"])
    found = sequence(records())
    assert found["value"].shape == (2, 4, 1)


def test_what_a_world_model_lacks_is_named() -> None:
    agent = foreign_agent()
    heads = [{"sensors": agent["decoder"]}, agent["reward"], agent["cont"]]
    with pytest.raises(TypeError, match=r"the Linear has no in_keys\. A world model says"):
        WorldModelLoss(nn.Linear(2, 2), *heads)
    with pytest.raises(TypeError, match=r"the Watcher has no decoders, cont\. .*by these names"):
        WorldModelLoss(agent["world_model"], reward=agent["reward"])
    with pytest.raises(TypeError, match="decoders is empty"):
        WorldModelLoss(agent["world_model"], {}, *heads[1:])

    class Forgetful(Watcher):
        def forward(self, tensordict: TensorDict) -> TensorDict:
            return super().forward(tensordict).exclude("prior_logits", "feat")

    with pytest.raises(KeyError, match=r"result of the world model lacks \['prior_logits', 'feat'"):
        WorldModelLoss(Forgetful(), *heads)(records())


def test_parameters_of_another_latent_than_one_hots_need_it_to_be_given() -> None:
    class Gaussian(Watcher):
        def forward(self, tensordict: TensorDict) -> TensorDict:
            seen = super().forward(tensordict)
            for key in ("post_logits", "prior_logits"):
                seen[key] = seen[key].flatten(-2)
            return seen

    agent = foreign_agent()
    heads = [{"sensors": agent["decoder"]}, agent["reward"], agent["cont"]]
    with pytest.raises(ValueError, match=r"one-hot latent: post_logits must be \[B, T, S, K\]"):
        WorldModelLoss(Gaussian(), *heads)(records())


def test_imagination_takes_a_latent_of_any_shape_from_an_rssm_without_sizes() -> None:
    class Gaussian(nn.Module):
        def img_step(self, deter: Tensor, stoch: Tensor, action: Tensor) -> tuple[Tensor, ...]:
            return deter + action.sum(-1, keepdim=True), torch.randn_like(stoch), stoch

        def feat(self, deter: Tensor, stoch: Tensor) -> Tensor:
            return torch.cat([deter, stoch], -1)

    start = TensorDict(deter=torch.zeros(5, 16), stoch=torch.zeros(5, 12), batch_size=[5])
    dreamt = Imagination(Gaussian(), foreign_agent()["actor"], 2)(start)
    assert dreamt["feat"].shape == (5, 3, FEAT) and dreamt["action"].shape == (5, 2, ACTIONS)
