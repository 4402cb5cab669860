"""One agent's head, a moment at a time: what it sees, guesses, expects and wants to do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from mario_dreamer import keys
from mario_dreamer.agent.policy import Policy
from mario_dreamer.distributions.onehot import OneHotCategorical

__all__ = ["DreamsInFlight", "Mind", "State", "Thought", "picture_error"]


@dataclass
class State:
    """Where the agent thinks it is.

    Args:
        deter: h_t, [B, D].
        stoch: z_t, [B, S, K] one-hot.
        logits: what z_t was drawn from, [B, S, K]: q with open eyes, p with shut ones.
        surprise: KL[q || p] in nats, [B]; None with shut eyes.
    """

    deter: Tensor
    stoch: Tensor
    logits: Tensor
    surprise: Tensor | None = None


@dataclass
class Thought:
    """What the agent makes of one moment, as plain numbers and CPU tensors.

    Args:
        picture: the decoder's x_t, uint8 [3, H, W].
        reward, cont, value: expected r_t, probability that the episode goes on, v_t.
        action_probs: [A].
        latent: probabilities that z_t was drawn from, [S, K].
        drawn: the class drawn in each of the S categoricals.
        surprise: KL in nats; None with shut eyes.
    """

    picture: Tensor
    reward: float
    cont: float
    value: float
    action_probs: Tensor
    latent: Tensor
    drawn: list[int]
    surprise: float | None


def as_bytes(picture: Tensor) -> Tensor:
    """Turn a picture in [0, 1] into bytes on the CPU; NaN, of a broken agent, becomes black."""
    return (picture.detach().float().cpu().nan_to_num(0.0).clamp(0, 1) * 255).round().byte()


def picture_error(picture: Tensor, truth: Tensor) -> float:
    """Return the mean squared error of two uint8 pictures, as of floats in [0, 1]."""
    return float((picture.float() - truth.float()).div_(255).square_().mean())


class Mind:
    """Step an agent's latent state through real frames or through its own dreams.

    Paper: arXiv:2301.04104, "World model learning".

        see       z_t ~ q(z_t | h_t, x_t)      eyes open
        imagine   z_t ~ p(z_t | h_t)           eyes shut

    Args:
        policy: world model and actor; its `uniform` and `autocast_dtype` are honoured.
        critic: distribution over returns, given feat.

    Raises:
        ValueError: the agent reads no pictures, so there is nothing to look at.
    """

    def __init__(self, policy: Policy, critic: nn.Module) -> None:
        self.world_model, self.actor, self.critic = policy.world_model, policy.actor, critic
        if keys.PIXELS not in self.world_model.observation_keys:
            raise ValueError(
                "the viewer shows pictures, but this agent reads only "
                f"{self.world_model.observation_keys}. Use a checkpoint trained on pixels."
            )
        self.uniform, self.dtype = policy.uniform, policy.autocast_dtype
        self.rssm = self.world_model.rssm
        self.device = next(self.world_model.parameters()).device

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)

    def _one_hot(self, action: int | None) -> Tensor:
        one_hot = torch.zeros(1, self.rssm.action_dim, device=self.device)
        if action is not None:
            one_hot[0, action] = 1.0
        return one_hot

    @torch.no_grad()
    def see(self, observation: TensorDictBase, state: State | None, action: int | None) -> State:
        """Take in a frame.

        Args:
            observation: x_t, a TensorDict [1] as the env gives it.
            state: of the moment before; None where x_t opens an episode.
            action: a_{t-1}; None where x_t opens an episode.
        """
        seen = self.world_model.observation_keys
        frame = TensorDict({key: observation[key] for key in seen}, [1]).to(self.device)
        first = torch.tensor([[state is None]], device=self.device)
        if state is None:
            deter, stoch = self.rssm.initial(1, self.device)
        else:
            deter, stoch = state.deter, state.stoch
        with self._autocast():
            embed = self.world_model.encode(frame)
            deter, stoch, post, prior = self.rssm.obs_step(
                deter, stoch, self._one_hot(action), embed, first
            )
            surprise = self.rssm.kl_loss(post, prior)[2]
        return State(deter.float(), stoch.float(), post, surprise.float())

    @torch.no_grad()
    def watch(self, observations: TensorDictBase, actions: list[int]) -> State:
        """Take in an episode from its opening frame on, in one go; return where it leads.

        Args:
            observations: x_1 .. x_T, a TensorDict [T].
            actions: a_1 .. a_{T-1}, taken between them.
        """
        seen = self.world_model.observation_keys
        length = observations.shape[0]
        frames = TensorDict({key: observations[key] for key in seen}, [length]).to(self.device)
        taken = torch.cat([self._one_hot(action) for action in (None, *actions)])
        first = torch.zeros(1, length, 1, dtype=torch.bool, device=self.device)
        first[:, 0] = True
        with self._autocast():
            embed = torch.cat([self.world_model.encode(part) for part in frames.split(64)])
            deter, stoch, post, prior = self.rssm.observe(embed[None], taken[None], first)
            surprise = self.rssm.kl_loss(post[:, -1], prior[:, -1])[2]
        return State(deter[:, -1].float(), stoch[:, -1].float(), post[:, -1], surprise.float())

    @torch.no_grad()
    def imagine(self, state: State, action: int) -> State:
        """Go on from `state`, [B], by `action` without looking."""
        with self._autocast():
            one_hot = self._one_hot(action).expand(len(state.deter), -1)
            deter, stoch, prior = self.rssm.img_step(state.deter, state.stoch, one_hot)
        return State(deter.float(), stoch.float(), prior)

    @torch.no_grad()
    def paint(self, state: State) -> Tensor:
        """Decode states, [B], into pictures, uint8 [B, 3, H, W]."""
        with self._autocast():
            mean = self.world_model.decoders[keys.PIXELS].head(state.deter, state.stoch)
        return as_bytes(mean)

    @torch.no_grad()
    def think(self, state: State, dream: State | None = None) -> tuple[Thought, Tensor | None]:
        """Ask every head about a state, [1]; paint `dream`, [1], in the same go if given."""
        both = state
        if dream is not None:
            both = State(
                torch.cat([state.deter, dream.deter]),
                torch.cat([state.stoch, dream.stoch]),
                state.logits,
            )
        pictures = self.paint(both)
        with self._autocast():
            feat = self.rssm.feat(state.deter, state.stoch)
            asked = (self.world_model.reward, self.world_model.cont, self.critic)
            reward, cont, value = (float(m.head.dist(m.head(feat)).mean) for m in asked)
            probs = self._action_probs(feat)
        latent = OneHotCategorical(state.logits, unimix=self.rssm.unimix).probs[0]
        thought = Thought(
            picture=pictures[0],
            reward=reward,
            cont=cont,
            value=value,
            action_probs=probs.cpu(),
            latent=latent.float().cpu(),
            drawn=state.stoch[0].argmax(-1).tolist(),
            surprise=None if state.surprise is None else float(state.surprise),
        )
        return thought, None if dream is None else pictures[1]

    def _action_probs(self, feat: Tensor) -> Tensor:
        params = self.actor.head(feat)
        params = torch.zeros_like(params) if self.uniform else params
        return self.actor.head.dist(params).probs[0].float()

    @torch.no_grad()
    def choose(self, probs: Tensor, greedy: bool) -> int:
        """Pick an action from its probabilities, [A]: the likeliest, or a draw."""
        if greedy or not torch.isfinite(probs).all():
            return int(probs.nan_to_num(0.0).argmax())
        return int(torch.multinomial(probs, 1))


class DreamsInFlight:
    """Keep `horizon` dreams going at once, one begun at each of the last moments.

    At time t the oldest was begun at t - horizon and went on from there with shut eyes along
    the actions really taken: what the agent foresaw then for now. One batched step per moment.

    Args:
        mind: dreams.
        horizon: k, at least 1.
    """

    def __init__(self, mind: Mind, horizon: int) -> None:
        self.mind, self.horizon = mind, horizon
        self.time = 0  # moments since the dreams began
        self.states: State | None = None

    def begin(self, state: State) -> None:
        """Start all dreams from this state, [1]: an episode opens."""
        size = self.horizon
        self.states = State(
            state.deter.repeat(size, 1), state.stoch.repeat(size, 1, 1), state.logits
        )
        self.time = 0

    def advance(self, action: int, state: State) -> tuple[State, int]:
        """Let every dream take one step; begin a new one in place of the oldest.

        Args:
            action: a_{t-1}, really taken.
            state: of now, [1]; the new dream starts from it.

        Returns:
            The oldest dream's state for now, [1], and its age in steps.
        """
        assert self.states is not None, "begin() opens an episode before advance()"
        self.time += 1
        moved = self.mind.imagine(self.states, action)
        slot = self.time % self.horizon
        one = slice(slot, slot + 1)
        oldest = State(moved.deter[one].clone(), moved.stoch[one].clone(), moved.logits[one])
        moved.deter[one], moved.stoch[one] = state.deter, state.stoch
        self.states = moved
        return oldest, min(self.time, self.horizon)
