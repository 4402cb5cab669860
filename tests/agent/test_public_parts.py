"""The agent's parts in the hands of somebody who builds an agent without Hydra."""

from __future__ import annotations

import copy
import importlib
import pickle
from typing import NamedTuple

import pytest
import torch
from tensordict import TensorDict
from torch.func import grad, vmap
from torchrl.data import Categorical, OneHot
from torchrl.envs import ExplorationType, check_env_specs, set_exploration_type

import mario_dreamer
from mario_dreamer import networks
from mario_dreamer.agent import (
    DistributionModule,
    Imagination,
    Policy,
    Returns,
    SlowCritic,
    WorldModel,
    WorldModelEnv,
)
from mario_dreamer.losses import ActorLoss, CriticLoss, WorldModelLoss

BLOCKS, SMALL = {"blocks": 2}, {"layers": 1, "units": 8}


class Agent(NamedTuple):
    """A tiny agent of vectors [3] and two actions."""

    world_model: WorldModel
    actor: DistributionModule
    critic: DistributionModule


def make_agent(norm: str = "rms", image: bool = False) -> Agent:
    encoders = {"vector": networks.MLPEncoder(3, norm=norm, **SMALL)}
    decoders = {"vector": networks.MLPDecoder(8, (2, 4), 3, norm=norm, **SMALL)}
    if image:
        options = {"depth": 4, "mults": (1,), "norm": norm}
        encoders["pixels"] = networks.ConvEncoder((3, 16, 16), **options)
        options |= {"input": "linear"}
        decoders["pixels"] = networks.ConvDecoder(8, (2, 4), (3, 16, 16), **options)
    encoder = networks.MultiEncoder(encoders)
    core = lambda **sizes: networks.BlockGRU(**sizes, **BLOCKS)  # noqa: E731
    rssm = networks.RSSM(core, encoder.embed_dim, 2, 8, (2, 4), 8, norm=norm)
    own = {"feat_dim": rssm.feat_dim, "norm": norm, **SMALL}
    reward = networks.TwoHotHead(outscale=1.0, **own)
    world_model = WorldModel(encoder, rssm, decoders, reward, networks.BernoulliHead(**own))
    actor = DistributionModule(
        networks.OneHotHead(action_dim=2, outscale=1.0, **own), ["feat"], "action"
    )
    critic = DistributionModule(networks.TwoHotHead(outscale=1.0, **own), ["feat"], "value")
    return Agent(world_model, actor, critic)


def records() -> TensorDict:
    flag = torch.zeros(2, 3, 1, dtype=torch.bool)
    return TensorDict(
        vector=torch.randn(2, 3, 3), prev_action=torch.eye(2)[torch.randint(2, (2, 3))],
        reward=torch.randn(2, 3, 1), is_first=flag, is_last=flag.clone(),
        is_terminal=flag.clone(), batch_size=[2, 3],
    )  # fmt: skip


def rollouts() -> TensorDict:
    return TensorDict(
        feat=torch.randn(4, 3, 16), action=torch.eye(2)[torch.randint(2, (4, 2))],
        advantage=torch.randn(4, 2, 1), lambda_return=torch.randn(4, 2, 1),
        weight=torch.rand(4, 3, 1), batch_size=[4],
    )  # fmt: skip


def states(n: int = 5) -> TensorDict:
    stoch = torch.eye(4)[torch.randint(4, (n, 2))]
    return TensorDict(deter=torch.randn(n, 8).tanh(), stoch=stoch, batch_size=[n])


@pytest.mark.parametrize("package", ["agent", "distributions", "losses", "networks", "replay"])
def test_what_a_package_offers_is_there(package: str) -> None:
    module = importlib.import_module(f"mario_dreamer.{package}")
    assert module.__all__ and all(hasattr(module, name) for name in module.__all__)


def test_networks_of_bfloat16_are_refused_outside_autocast() -> None:
    world_model, data = make_agent(image=True).world_model.bfloat16(), records()
    data["vector"], data["pixels"] = data["vector"].bfloat16(), bytes_of(2, 3)
    for module in (world_model, WorldModelLoss(world_model)):
        with pytest.raises(ValueError, match="weights are torch.bfloat16.*torch.autocast"):
            module(data)
        with torch.autocast("cpu"):
            module(data)


def in_double(data: TensorDict) -> TensorDict:
    return data.apply(lambda x: x.double() if x.is_floating_point() else x)


def bytes_of(*batch: int) -> torch.Tensor:
    return torch.randint(256, (*batch, 3, 16, 16), dtype=torch.uint8)


@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_the_gradients_of_all_losses_are_exact_in_double_precision(norm: str) -> None:
    model, actor, critic = agent = make_agent(norm, image=True)
    world_loss = WorldModelLoss(model, free_nats=0.0, beta_prior=1.0)
    losses = [world_loss, ActorLoss(actor), CriticLoss(critic, SlowCritic(critic))]
    data, imagined = in_double(records()), in_double(rollouts())
    data["pixels"] = bytes_of(2, 3)
    for loss in losses:
        loss.double()

    def total(*_: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        found = [world_loss(data)[0], *(loss(imagined) for loss in losses[1:])]
        return sum(v for terms in found for key, v in terms.items() if key.startswith("loss_"))

    # What draws z has a straight-through gradient; the rest has to have that of the numbers.
    exact = [model.decoders, model.cont, actor, critic]
    weights = [weight for part in exact for weight in part.parameters()]
    assert torch.autograd.gradcheck(total, weights, fast_mode=True)
    total().backward()
    learned = [p.grad for part in agent for p in part.parameters() if p.grad is not None]
    assert {grad.dtype for grad in learned} == {torch.float64}
    assert all(grad.isfinite().all() for grad in learned) and len(learned) > len(weights)


def test_an_agent_in_double_precision_acts_and_imagines() -> None:
    model, actor, critic = make_agent()
    for part in (model, actor, critic):
        part.double()
    env = WorldModelEnv(model, states(), OneHot(2), num_envs=3)
    check_env_specs(env)
    returns = Returns(model.reward, model.cont, critic)
    imagined = returns(Imagination(model.rssm, actor, 3)(env.reset()), update_range=True)
    assert imagined["advantage"].dtype == torch.float64
    root = TensorDict(vector=torch.randn(3, 3), prev_action=torch.zeros(3, 2), batch_size=[3])
    root.update(states(3)).set("is_init", torch.ones(3, 1, dtype=torch.bool))
    played = Policy(model, actor)(root)  # envs speak float32
    assert played["next", "deter"].dtype == torch.float32 and played["action"].sum() == 3


def test_completion_lists_the_packages_public_names() -> None:
    assert set(dir(mario_dreamer)) == set(mario_dreamer.__all__) >= {"WorldModelEnv", "RSSM"}


def test_a_head_takes_keywords_as_torchrls_modules_do() -> None:
    critic, feat = make_agent().critic, torch.randn(4, 16)
    params, value = critic(feat=feat)
    expected = critic(TensorDict(feat=feat, batch_size=[4]))
    assert torch.equal(value, expected["value"]) and torch.equal(params, expected["value_params"])


@pytest.mark.parametrize("norm", ["rms", "layer"])
@pytest.mark.parametrize("kind", ["world model", "actor", "critic"])
def test_an_ensemble_under_vmap_learns_as_each_member_does(kind: str, norm: str) -> None:
    agents = [make_agent(norm) for _ in range(2)]
    make, data, term = {
        "world model": (lambda a: WorldModelLoss(a.world_model), records(), "loss_recon"),
        "actor": (lambda a: ActorLoss(a.actor), rollouts(), "loss_actor"),
        "critic": (
            lambda a: CriticLoss(a.critic, SlowCritic(a.critic)), rollouts(), "loss_critic"
        ),
    }[kind]  # fmt: skip
    losses = [make(agent).double() for agent in agents]  # float32 rounds gradients of 1,000
    data = in_double(data)
    template = copy.deepcopy(losses[0])

    def loss_of(params: TensorDict) -> torch.Tensor:
        with params.to_module(template):
            found = template(data.copy())
        return (found[0] if isinstance(found, tuple) else found)[term]

    if kind == "world model":  # no latent is drawn: the members' randomness would differ
        template.world_model.rssm.stoch_dist = lambda logits: Still(logits)
        for loss in losses:
            loss.world_model.rssm.stoch_dist = lambda logits: Still(logits)
    params = TensorDict.from_modules(*losses, as_module=False).detach()
    found = vmap(grad(loss_of), randomness="different")(params)
    for member, loss in enumerate(losses):
        result = loss(data.copy())
        (result[0] if isinstance(result, tuple) else result)[term].backward()
        for name, param in loss.named_parameters():
            if param.grad is not None:
                mine = found[member].get(tuple(name.split(".")))
                torch.testing.assert_close(mine, param.grad, msg=name, atol=1e-9, rtol=1e-9)


class Still:
    """Logits whose draw is their softmax."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.probs = logits.softmax(-1)

    def rsample(self, *_: object, **__: object) -> torch.Tensor:
        return self.probs


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_the_parts_learn_as_the_originals_do(copied: object) -> None:
    agent = make_agent()
    parts = [WorldModelLoss(agent.world_model), Imagination(agent.world_model.rssm, agent.actor, 2),
             Returns(agent.world_model.reward, agent.world_model.cont, agent.critic),
             ActorLoss(agent.actor), CriticLoss(agent.critic, SlowCritic(agent.critic))]  # fmt: skip
    data = records()

    def loss_of(model, imagination, returns, actor, critic) -> torch.Tensor:  # noqa: ANN001
        torch.manual_seed(0)
        losses, posterior = model(data)
        imagined = imagination(posterior.select("deter", "stoch").detach().reshape(-1))
        imagined = returns(imagined, update_range=True)
        losses.update(actor(imagined)).update(critic(imagined, posterior))
        return sum(value for name, value in losses.items() if name.startswith("loss_"))

    copies = copied(parts)
    assert torch.equal(loss_of(*parts), loss_of(*copies))


def test_an_action_head_writes_an_action_and_not_its_mean() -> None:
    actor, seen = make_agent().actor, TensorDict(feat=torch.randn(200, 16), batch_size=[200])
    dist = actor.get_dist(seen)
    with set_exploration_type(ExplorationType.RANDOM):
        drawn = actor(seen.copy())["action"]
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        greedy = actor(seen.copy())["action"]
    assert drawn.dtype == torch.int64 and drawn.sum(-1).unique().tolist() == [1]
    assert torch.equal(greedy.float(), dist.mode) and not torch.equal(drawn, greedy)


def test_the_actor_acts_in_a_rollout_of_the_world_model() -> None:
    agent = make_agent()
    env = WorldModelEnv(agent.world_model, states(), OneHot(2), 4, decode=["vector"])
    played = env.rollout(6, agent.actor, break_when_any_done=False)
    assert played["action"].sum(-1).unique().tolist() == [1]
    assert played["next", "vector"].shape == (4, 6, 3)


def test_an_encoder_without_shapes_is_enough_to_decode() -> None:
    world_model = make_agent().world_model
    world_model.encoder = torch.nn.Identity()
    env = WorldModelEnv(world_model, states(), OneHot(2), 4, decode=["vector"])
    assert env.rollout(1)["vector"].shape == (4, 1, 3)


def test_a_world_model_env_refuses_what_its_model_lacks() -> None:
    world_model = make_agent().world_model
    for spec in (OneHot(3), Categorical(2)):
        with pytest.raises(ValueError, match="WorldModelEnv: action_spec must be .*A=2"):
            WorldModelEnv(world_model, states(), spec)
    with pytest.raises(KeyError, match="no decoder for .'pixels'.; there is one for .'vector'"):
        WorldModelEnv(world_model, states(), OneHot(2), decode=["pixels"])


def test_imagination_refuses_actions_that_the_rssm_cannot_read() -> None:
    agent = make_agent()
    agent.actor.head.dist = lambda logits: torch.distributions.Categorical(logits=logits)
    imagination = Imagination(agent.world_model.rssm, agent.actor, 2)
    with pytest.raises(ValueError, match=r"Imagination: action must be \[N, A=2\].*got \[5\]"):
        imagination(states())


def test_a_policy_without_its_primer_says_what_the_env_needs() -> None:
    agent = make_agent()
    seen = TensorDict(vector=torch.zeros(2, 3), is_init=torch.ones(2, 1).bool(), batch_size=[2])
    with pytest.raises(KeyError, match=r"lacks .*deter.*: the env needs .*make_tensordict_primer"):
        Policy(agent.world_model, agent.actor)(seen)


def test_a_policy_in_an_env_without_a_batch_says_what_makes_one() -> None:
    agent = make_agent()
    state = states()[0].update({"vector": torch.zeros(3), "is_init": torch.ones(1).bool()})
    seen = state.update({"prev_action": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"the env has no batch dimension.*SerialEnv\(N, make\)"):
        Policy(agent.world_model, agent.actor)(seen)
