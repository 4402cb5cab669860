"""The actor's loss: do more of what went better than expected."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from tensordict.nn import dispatch
from torch import nn
from torchrl.objectives import LossModule

from mario_dreamer import keys
from mario_dreamer.checks import check
from mario_dreamer.losses.checks import require

__all__ = ["ActorLoss"]


class ActorLoss(LossModule):
    """Make dreamed actions likelier by how much better they did than the critic expected.

    Paper: arXiv:2301.04104, "Actor learning": REINFORCE with normalised returns.

        L = mean_t sg(w_t) * ( -log pi(a_t | sg(s_t)) * sg(A_t) - eta * H[pi(. | sg(s_t))] )

    with t = 0 .. H-1, A_t = (R_t - v_t) / S and w_t the weight of `Returns`. No gradient
    reaches the world model or the critic.

    Args:
        actor: module with `get_dist(tensordict)`; the distribution has log_prob and entropy,
            both [N, H].
        entropy_scale: eta, in nats; how much randomness is worth.
    """

    @dataclass
    class _AcceptedKeys:
        """Keys that `set_keys` can rename.

        feat: s_t, [N, H + 1, F].  weight: w_t, [N, H + 1, 1].
        action: a_t, [N, H, A] one-hot.  advantage: A_t, [N, H, 1].
        """

        feat: NestedKey = keys.FEAT
        action: NestedKey = keys.ACTION
        advantage: NestedKey = keys.ADVANTAGE
        weight: NestedKey = keys.WEIGHT

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys

    def __init__(self, actor: nn.Module, *, entropy_scale: float = 3e-4) -> None:
        super().__init__()
        self.actor = actor
        # A buffer, so that a schedule may change it under a recorded CUDA graph.
        self.register_buffer("entropy_scale", torch.tensor(entropy_scale), persistent=False)
        self.out_keys = ["loss_actor", "actor_loss", "entropy", "advantage_std"]

    @property
    def in_keys(self) -> list[NestedKey]:
        """What a dream must hold."""
        names = self.tensor_keys
        return [names.feat, names.action, names.advantage, names.weight]

    def _forward_value_estimator_keys(self, **kwargs: NestedKey) -> None:
        """Advantages come ready made: there is no value estimator to tell."""

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Compute the loss of N dreams of H steps.

        Args:
            tensordict: [N], with the keys of `in_keys`.

        Returns:
            `loss_actor` (nats, sign free) and the metrics actor_loss, entropy (nats per step)
            and advantage_std, all 0-dim.

        Raises:
            KeyError: when a key is missing.
        """
        require(self, tensordict)
        names = self.tensor_keys
        wanted = {names.action: "N H A: one-hot", names.advantage: "N H 1: float",
                  names.weight: "N H+1 1: number", names.feat: "N H+1 F: float"}  # fmt: skip
        fields = {key: (tensordict.get(key), shape) for key, shape in wanted.items()}
        check("ActorLoss", None, {}, fields)
        horizon = tensordict[names.action].shape[1]
        state = TensorDict(
            {keys.FEAT: tensordict[names.feat][:, :horizon].detach()},
            batch_size=tensordict.batch_size,
        )
        policy = self.actor.get_dist(state)
        advantage = tensordict[names.advantage].detach().squeeze(-1)  # [N, H]
        weight = tensordict[names.weight][:, :horizon].detach().squeeze(-1)
        log_prob = policy.log_prob(tensordict[names.action].detach())
        entropy = policy.entropy()
        assert log_prob.shape == advantage.shape == weight.shape == entropy.shape, (
            f"ActorLoss: {log_prob.shape}, {advantage.shape}, {weight.shape}, {entropy.shape}"
        )
        loss = -(weight * (log_prob * advantage + self.entropy_scale * entropy)).mean()
        return TensorDict(
            loss_actor=loss,
            actor_loss=loss.detach(),
            entropy=entropy.detach().mean(),
            advantage_std=advantage.std(correction=0),
        )
