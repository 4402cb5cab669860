"""One step of the policy as a program: tensors in and tensors out, noise and state included."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mario_dreamer import keys
from mario_dreamer.agent.policy import Policy

__all__ = ["ActingProgram"]


class ActingProgram(nn.Module):
    """Play one step as `Policy` does, with everything that decides the action as an argument.

    Paper: arXiv:2301.04104, "Actor critic learning".

        h_t = f(h_{t-1}, z_{t-1}, a_{t-1})
        z_t ~ q(z_t | h_t, x_t)        drawn with the first S uniform numbers of `noise`
        a_t ~ pi(a_t | h_t, z_t)       drawn with the last one; greedy: the likeliest

    `Policy` carries its state in TorchRL's TensorDict and draws from torch's random stream; this
    does neither, so that `torch.export` can write it down and anybody can run it. In float32.

    Args:
        policy: world model and actor; their weights are copied, to the CPU.

    Raises:
        ValueError: for another kind of action than one-hot.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        kind = getattr(policy.actor.head, "kind", "onehot")
        if kind != "onehot":
            raise ValueError(f"only one-hot actions are exported; those of this agent are {kind}.")
        model = policy.world_model
        self.encoder = copy.deepcopy(model.encoder).cpu().float().eval()
        self.rssm = copy.deepcopy(model.rssm).cpu().float().eval()
        self.actor = copy.deepcopy(policy.actor.head).cpu().float().eval()
        self.observation_keys = list(model.observation_keys)
        self.requires_grad_(False)

    @torch.no_grad()
    def take(self, policy: Policy) -> None:
        """Take over the policy's weights as they are now, in place: an export of this sees them."""
        model = policy.world_model
        modules = (model.encoder, model.rssm, policy.actor.head)
        for own, theirs in zip((self.encoder, self.rssm, self.actor), modules, strict=True):
            own.load_state_dict(theirs.state_dict())

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
        """Choose a_t for N games side by side.

        Args:
            observation: x_t: `pixels` uint8 [N, 3, H, W] or `vector` float32 [N, V], or both.
            prev_action: a_{t-1}, one-hot [N, A] float32; anything where is_first.
            deter: h_{t-1}, [N, D] float32; anything finite where is_first.
            stoch: z_{t-1}, [N, S, K] float32; anything finite where is_first.
            is_first: x_t opens an episode, [N] bool: the past is forgotten there.
            noise: uniform numbers in [0, 1), [N, S + 1] float32.
            greedy: take the likeliest action, [N] bool. z_t is drawn all the same.

        Returns:
            `action` a_t one-hot [N, A] float32, `deter` h_t, `stoch` z_t, `probs` [N, A].
        """
        seen = {
            key: observation[key].float() / 255.0 if keys.is_image(key) else observation[key]
            for key in self.observation_keys
        }
        deter, stoch, _, _ = self.rssm.obs_step(
            deter,
            stoch,
            prev_action,
            self.encoder(seen),
            is_first.unsqueeze(-1),
            noise[:, :-1, None],
        )
        dist = self.actor.dist(self.actor(self.rssm.feat(deter, stoch)))
        action = torch.where(greedy.unsqueeze(-1), dist.mode, dist.sample(noise[:, -1:]))
        return {"action": action, "deter": deter, "stoch": stoch, "probs": dist.probs}
