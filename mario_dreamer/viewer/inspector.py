"""An agent's state, one moment at a time: what it predicts from there and how it would act."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torch.distributions import Distribution

from mario_dreamer import keys
from mario_dreamer.agent.policy import Policy
from mario_dreamer.precision import autocast


@dataclass
class Belief:
    """The latent state of the RSSM, batch [B].

    Args:
        deter: h_t, [B, D].
        stoch: z_t, [B, S, K] one-hot.
        logits: z_t was sampled from these, [B, S, K]: posterior, or prior in open loop.
        kl: KL[posterior || prior] in nats, [B]; None in open loop.
    """

    deter: Tensor
    stoch: Tensor
    logits: Tensor
    kl: Tensor | None = None


@dataclass
class Prediction:
    """What the heads predict from one state, as plain numbers and CPU tensors.

    Args:
        frame: decoder's mean of x_t, uint8 [C, H, W].
        policy: distribution over actions, batch [1].
        latent: probabilities that z_t was sampled from, [S, K].
        info: `predicted_reward`, `cont`, `value`: expected r_t, probability that the episode goes
            on, v_t; `classes`: the class sampled in each of the S categoricals; `kl` in nats,
            None in open loop.
    """

    frame: Tensor
    policy: Distribution
    latent: Tensor
    info: dict[str, Any]


def as_bytes(frame: Tensor) -> Tensor:
    """Turn floats in [0, 1] into bytes on the CPU; NaN, of a broken agent, becomes black."""
    return (frame.detach().float().cpu().nan_to_num(0.0).clamp(0, 1) * 255).round().byte()


def frame_error(frame: Tensor, truth: Tensor) -> float:
    """Return the mean squared error of two uint8 frames, as of floats in [0, 1]."""
    return float((frame.float() - truth.float()).div_(255).square_().mean())


def describe_policy(policy: Distribution) -> dict[str, Any]:
    """Return what is shown of a distribution over actions, batch [1].

    Returns:
        `probs` [A] of discrete actions; else `mean` and `std` [A].
    """
    probs = getattr(policy, "probs", None)
    if probs is not None:
        return {"probs": probs[0].float().tolist()}
    drawn = policy.sample((64,))  # TorchRL's squashed ones know no mean of their own
    return {"mean": drawn.mean(0)[0].tolist(), "std": drawn.std(0)[0].tolist()}


class AgentInspector:
    """Step an agent's latent state by real frames or by its own imagination.

    Paper: arXiv:2301.04104, "World model learning".

        observe   z_t ~ q(z_t | h_t, x_t)      posterior
        imagine   z_t ~ p(z_t | h_t)           prior, open loop

    Nothing that training changes is changed here: no weights, no running range of returns.

    Args:
        policy: world model and actor; it steps the state and gives the actions.
        critic: distribution over returns, given feat.

    Attributes:
        image: key of the observation that is shown, the first image.

    Raises:
        ValueError: the agent observes no pixels, so there is nothing to show.
    """

    def __init__(self, policy: Policy, critic: nn.Module) -> None:
        self.policy, self.world_model, self.critic = policy, policy.world_model, critic
        image = keys.first_image(self.world_model.observation_keys)
        if image is None:
            raise ValueError(
                "the viewer shows pictures, but this agent observes only "
                f"{self.world_model.observation_keys}. Use a checkpoint trained on pixels."
            )
        self.image = image
        self.rssm = self.world_model.rssm
        self.device = next(self.world_model.parameters()).device

    @torch.no_grad()
    def observe(
        self, observation: TensorDictBase, belief: Belief | None, action: Tensor | None
    ) -> Belief:
        """Take in a frame.

        Args:
            observation: x_t, a TensorDict [1] as the env gives it.
            belief, action: of the moment before, and a_{t-1}, [A]; both None where x_t opens an
                episode.
        """
        if belief is None:
            deter, stoch = self.rssm.initial(1, self.device)
            action = torch.zeros(self.rssm.action_dim)
        else:
            deter, stoch = belief.deter, belief.stoch
        root = {key: observation[key] for key in self.world_model.observation_keys} | {
            "is_init": torch.tensor([[belief is None]]), keys.DETER: deter, keys.STOCH: stoch,
            keys.PREV_ACTION: action[None].float(),
        }  # fmt: skip
        root = TensorDict(root, [1]).to(self.device)
        deter, stoch, posterior, prior = self.policy.observe(root)
        kl = self.rssm.kl_loss(posterior, prior)[2]
        return Belief(deter.float(), stoch.float(), posterior, kl.float())

    @torch.no_grad()
    def imagine(self, belief: Belief, action: Tensor) -> Belief:
        """Go on from `belief`, [B], by one action, [A], without a frame."""
        actions = action.to(self.device).float().expand(len(belief.deter), -1)
        with autocast(self.device, self.policy.autocast_dtype):
            deter, stoch, prior = self.rssm.img_step(belief.deter, belief.stoch, actions)
        return Belief(deter.float(), stoch.float(), prior)

    @torch.no_grad()
    def decode(self, *beliefs: Belief) -> Tensor:
        """Decode states, B in all, in one go into frames, uint8 [B, C, H, W]."""
        deter = torch.cat([belief.deter for belief in beliefs])
        stoch = torch.cat([belief.stoch for belief in beliefs])
        with autocast(self.device, self.policy.autocast_dtype):
            mean = self.world_model.decoders[self.image].head(deter, stoch)
        return as_bytes(mean)

    @torch.no_grad()
    def predict(
        self, belief: Belief, imagined: Belief | None = None
    ) -> tuple[Prediction, Tensor | None]:
        """Ask every head about a state, [1]; decode `imagined`, [1], in the same go if given."""
        frames = self.decode(belief) if imagined is None else self.decode(belief, imagined)
        with autocast(self.device, self.policy.autocast_dtype):
            feat = self.rssm.feat(belief.deter, belief.stoch)
            asked = (self.world_model.reward, self.world_model.cont, self.critic)
            reward, cont, value = (float(m.head.dist(m.head(feat)).mean) for m in asked)
        policy = self.policy.distribution(belief.deter, belief.stoch)
        latent = self.rssm.stoch_dist(belief.logits).probs[0].float().cpu()
        info = {
            "predicted_reward": reward, "cont": cont, "value": value,
            "classes": belief.stoch[0].argmax(-1).tolist(),
            "kl": None if belief.kl is None else float(belief.kl),
        }  # fmt: skip
        return Prediction(frames[0], policy, latent, info), None if imagined is None else frames[1]


class OpenLoopRollouts:
    """Keep `horizon` open-loop rollouts going at once, one begun at each of the last moments.

    At time t the oldest was begun at t - horizon and went on from there along the actions really
    taken: what the agent foresaw then for now. One batched step per moment.

    Args:
        horizon: k, at least 1.
        belief: of the moment at which all of them begin, [1].
    """

    def __init__(self, inspector: AgentInspector, horizon: int, belief: Belief) -> None:
        self.inspector, self.horizon = inspector, horizon
        self.time = 0  # moments since the rollouts began
        deter, stoch = belief.deter.repeat(horizon, 1), belief.stoch.repeat(horizon, 1, 1)
        self.beliefs = Belief(deter, stoch, belief.logits)

    def advance(self, action: Tensor, belief: Belief) -> tuple[Belief, int]:
        """Let every rollout take one step; begin a new one in place of the oldest.

        Args:
            action: a_{t-1}, really taken, [A].
            belief: of now, [1]; the new rollout starts from it.

        Returns:
            The oldest rollout's state for now, [1], and its age in steps.
        """
        self.time += 1
        moved = self.inspector.imagine(self.beliefs, action)
        slot = self.time % self.horizon
        one = slice(slot, slot + 1)
        oldest = Belief(moved.deter[one].clone(), moved.stoch[one].clone(), moved.logits[one])
        moved.deter[one], moved.stoch[one] = belief.deter, belief.stoch
        self.beliefs = moved
        return oldest, min(self.time, self.horizon)
