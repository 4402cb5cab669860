"""One step of the policy as a program: tensors in and tensors out, noise and state included."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mario_dreamer import keys
from mario_dreamer.agent.distribution_module import likeliest
from mario_dreamer.agent.policy import Policy
from mario_dreamer.agent.world_model import WorldModel
from mario_dreamer.networks.action_heads import ActionHead


class ActingProgram(nn.Module):
    """Call a `Policy` with everything that decides the action as an argument, in float32.

    So `torch.export` can write it down: no TensorDict, no random generator, no state of its own.

    Args:
        policy: world model and actor; the weights that play are copied, to the CPU.

    Raises:
        ValueError: the actor's head has no `draw` of its own, see `ActionHead`.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.check(policy)
        self.policy = copy.deepcopy(_without_heads(policy)).cpu().float().eval()
        self.policy.requires_grad_(False)

    @staticmethod
    def check(policy: Policy) -> None:
        """Raise ValueError for a policy that cannot be exported."""
        head = type(policy.actor.head)
        if getattr(head, "draw", None) in (None, ActionHead.draw):
            raise ValueError(f"{head.__name__} lacks draw(params, noise): it is not exported.")

    @property
    def actor(self) -> ActionHead:
        """The head that draws the actions."""
        return self.policy.actor.head

    @torch.no_grad()
    def take(self, policy: Policy) -> None:
        """Copy the policy's present weights in place, so that an export of this has them."""
        self.policy.load_state_dict(_without_heads(policy).state_dict())

    def forward(
        self,
        observation: dict[str, Tensor],
        prev_action: Tensor,
        deter: Tensor,
        stoch: Tensor,
        is_first: Tensor,
        noise: Tensor,
        greedy: Tensor,
    ) -> dict[str, Tensor]:
        """Choose a_t for N games.

        Args:
            observation: x_t: `pixels` uint8 [N, 3, H, W] or `vector` float32 [N, V], or both.
            prev_action: a_{t-1}, [N, A] float32; anything where is_first.
            deter: h_{t-1}, [N, D] float32; anything finite where is_first.
            stoch: z_{t-1}, [N, S, K] float32; anything finite where is_first.
            is_first: x_t opens an episode, [N] bool: the state is reset there.
            noise: uniform numbers in [0, 1), [N, S + `noise_dim`] float32: S to draw z_t, the others
                to draw a_t, see `ActionHead`.
            greedy: take the likeliest action, [N] bool. z_t is drawn all the same.

        Returns:
            `action` a_t [N, A] float32, one-hot or numbers (in [-1, 1] where the env has bounds),
            `deter` h_t, `stoch` z_t, and of one-hot actions `probs` [N, A].
        """
        state = {keys.DETER: deter, keys.STOCH: stoch, keys.PREV_ACTION: prev_action}
        state |= {**observation, "is_init": is_first.unsqueeze(-1)}
        for_state, for_action = noise.tensor_split([stoch.shape[1]], -1)
        deter, stoch, _, _ = self.policy.observe(state, for_state.unsqueeze(-1))
        params = self.actor(self.policy.world_model.rssm.feat(deter, stoch))
        drawn, dist = self.actor.draw(params, for_action), self.actor.dist(params)
        action = torch.where(greedy.unsqueeze(-1), likeliest(dist), drawn)
        is_one_hot = self.actor.kind in ("onehot", "multi_onehot")
        probs = {"probs": dist.probs} if is_one_hot else {}
        return {"action": action, "deter": deter, "stoch": stoch, **probs}


def _without_heads(policy: Policy) -> Policy:
    """The same policy, in float32, on a world model without decoders, reward and continue head."""
    model, no_head = policy.world_model, nn.Identity()
    decoders = dict.fromkeys(model.observation_keys, no_head)
    bare = WorldModel(model.encoder, model.rssm, decoders, no_head, no_head)
    return Policy(bare, policy.actor)
