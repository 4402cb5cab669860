"""The same update made of TorchRL 0.14.1's public DreamerV3 parts, in eager fp32.

Sizes of the seed: 32 x 32 categories, 512 wide, four strided convolutions from 32 channels,
heads of two layers, 15 imagined steps. What its own recipe (sota-implementations/dreamer_v3)
wires with one step more is wired here by hand: DreamerV3Loss, DreamerEnv, DreamerV3Optimizer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule as Mod
from tensordict.nn import TensorDictSequential as Seq
from torch import nn
from torchrl.data import Composite, OneHot, Unbounded
from torchrl.envs.model_based import DreamerEnv
from torchrl.modules import (
    DreamerV3DiscreteActor,
    DreamerV3MLP,
    ObsDecoder,
    ObsEncoder,
    RSSMPosteriorV3,
    RSSMPriorV3,
    RSSMRolloutV3,
    SymExpTwoHot,
    WorldModelWrapper,
)
from torchrl.objectives import (
    DreamerV3ActorLoss,
    DreamerV3Loss,
    DreamerV3ModelLoss,
    DreamerV3ValueLoss,
    SoftUpdate,
    ValueEstimators,
)
from torchrl.trainers.algorithms.dreamer_v3 import DreamerV3Optimizer

WIDE, CATEGORIES, CLASSES, ACTIONS, BINS = 512, 32, 32, 7, 255
STATE = CATEGORIES * CLASSES


def _next(*names: str) -> list[tuple[str, str]]:
    return [("next", name) for name in names]


def torchrl_batch(batch: int, length: int) -> TensorDict:
    """Random transitions [batch, length] of 3 x 64 x 64 frames, keys as TorchRL's recipe has them."""
    shape = (batch, length)
    no = torch.zeros(*shape, 1, dtype=torch.bool)
    after = {
        "pixels": torch.rand(*shape, 3, 64, 64),
        "reward": torch.rand(*shape, 1),
        "done": no,
        "terminated": no,
        "truncated": no,
    }
    action = torch.eye(ACTIONS)[torch.randint(ACTIONS, shape)]
    root = {"state": torch.zeros(*shape, STATE), "belief": torch.zeros(*shape, WIDE)}
    return TensorDict({**root, "action": action, "is_init": no.clone(), "next": after}, shape)


def torchrl_update(batch: int, length: int, horizon: int) -> Callable[[], None]:
    """Build everything; the returned function makes one whole update of one fixed batch."""
    feat = STATE + WIDE

    def head(out: int, scale: float = 0.0) -> DreamerV3MLP:
        return DreamerV3MLP(feat, out, depth=2, num_cells=WIDE, outscale=scale)

    sizes = dict(num_categoricals=CATEGORIES, num_classes=CLASSES, unimix=0.01)
    prior = RSSMPriorV3(
        action_shape=(ACTIONS,), action_dim=ACTIONS, hidden_dim=WIDE, rnn_hidden_dim=WIDE, **sizes
    )
    posterior = RSSMPosteriorV3(hidden_dim=WIDE, rnn_hidden_dim=WIDE, obs_embed_dim=1024, **sizes)
    reward, cont, value = head(BINS), head(1, 1.0), head(BINS)
    two_hot, states = SymExpTwoHot(BINS), ["belief", "state"]
    world_model = Seq(
        Mod(ObsEncoder(32, 4, in_channels=3), _next("pixels"), _next("encoded_latents")),
        RSSMRolloutV3(
            Mod(prior, ["state", "belief", "action"], _next("prior_logits", "state", "belief")),
            Mod(
                posterior,
                _next("belief", "encoded_latents"),
                _next("posterior_logits", "state"),
            ),
            reset_key="is_init",
        ),
        Mod(ObsDecoder(32, 4, latent_dim=feat), _next("state", "belief"), _next("reco_pixels")),
        Mod(reward, _next(*states), _next("reward_logits")),
        Mod(two_hot, _next("reward_logits"), _next("reward")),
        Mod(cont, _next(*states), _next("continue_pred")),
    )
    imagination = WorldModelWrapper(
        Mod(prior, ["state", "belief", "action"], ["_", "state", "belief"]),
        Seq(Mod(reward, states, ["reward_logits"]), Mod(two_hot, ["reward_logits"], ["reward"])),
    )
    env = DreamerEnv(imagination, prior_shape=(STATE,), belief_shape=(WIDE,))
    env.observation_spec = Composite(state=Unbounded(STATE), belief=Unbounded(WIDE))
    env.state_spec = env.observation_spec.clone()
    env.action_spec, env.reward_spec = OneHot(ACTIONS), Unbounded((1,))
    critic = Seq(
        Mod(value, states, ["state_value_logits"]),
        Mod(two_hot, ["state_value_logits"], ["state_value"]),
    )
    alive = Seq(
        Mod(cont, states, ["continue_logits"]),
        Mod(nn.Sigmoid(), ["continue_logits"], ["continuation"]),
    )
    actor = DreamerV3DiscreteActor(feat, ACTIONS, depth=2, num_cells=WIDE)
    model_loss = DreamerV3ModelLoss(
        world_model,
        num_reward_bins=BINS,
        kl_mode="separate",
        unimix=0.01,
        lambda_continue=1.0,
        reco_symlog=False,
        continue_target_scale=1 - 1 / 333,
        detach_output=False,
    )
    model_loss.set_keys(pixels="pixels", reco_pixels="reco_pixels")
    actor_loss = DreamerV3ActorLoss(
        actor,
        critic,
        env,
        continuation_model=alive,
        imagination_horizon=horizon,
        use_reinforce=True,
    )
    actor_loss.make_value_estimator(ValueEstimators.TDLambda, gamma=1 - 1 / 333, lmbda=0.95)
    value_loss = DreamerV3ValueLoss(
        critic,
        value_loss="two_hot",
        num_value_bins=BINS,
        actor_loss=actor_loss,
        slow_critic_regularization=1.0,
    )
    follow = SoftUpdate(value_loss, tau=0.02)
    # The seed has no critic loss on recorded states, so neither is there one here.
    loss = DreamerV3Loss(model_loss, actor_loss, value_loss, replay_value_loss_weight=0.0)
    parameters = [*world_model.parameters(), *actor.parameters(), *value_loss.parameters()]
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    optimizer = DreamerV3Optimizer(parameters, lr=4e-5)
    data = torchrl_batch(batch, length)

    def update() -> None:
        losses = loss(data.copy())
        total = sum(part.mean() for name, part in losses.items() if name.startswith("loss_"))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        follow.step()

    return update
