"""Imagination: roll the actor forward inside the world model."""

from __future__ import annotations

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn

from mario_dreamer import keys
from mario_dreamer.checks import check, require_keys
from mario_dreamer.networks.frozen import frozen
from mario_dreamer.networks.regions import region


class Imagination(TensorDictModuleBase):
    """Roll the actor forward in the world model's prior.

    Paper: arXiv:2301.04104, "Actor critic learning".

        a_t ~ pi(a_t | sg(h_t, z_t))
        h_{t+1} = f(h_t, z_t, a_t),  z_{t+1} ~ p(z_{t+1} | h_{t+1})      t = 0 .. H-1

    Without `differentiable` nothing carries a gradient: REINFORCE evaluates the policy once more
    on all imagined states at a time. With it the states depend on the actor's parameters through
    its reparametrised actions, and on no others.

    Args:
        rssm: has `img_step(deter, stoch, action)` and `feat(deter, stoch)`.
        actor: has `get_dist(tensordict)`; the distribution has `sample()`, or `rsample()` where
            `differentiable`.
        horizon: H, number of imagined steps, at least 1.
        differentiable: keep the graph from the actions to the states.

    Raises:
        ValueError: when `horizon` is less than 1; at the first step, where `rsample()` is missing.
    """

    def __init__(
        self, rssm: nn.Module, actor: nn.Module, horizon: int = 15, differentiable: bool = False
    ) -> None:
        super().__init__()
        if horizon < 1:
            raise ValueError(f"Imagination: imag_horizon must be at least 1, got {horizon}.")
        self.rssm, self.sizes = rssm, getattr(rssm, "sizes", {})
        self.actor = actor
        self.horizon, self.differentiable = horizon, differentiable
        self.in_keys = [keys.DETER, keys.STOCH]
        self.out_keys = [keys.FEAT, keys.ACTION]

    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Imagine H steps from each of N states.

        Args:
            tensordict: [N], with deter h_0 [N, D] and stoch z_0 [N, S, K], or [N, ...] as an rssm
                without `sizes` has it.

        Returns:
            TensorDict [N] with feat [N, H + 1, F] (t = 0 is the start state) and
            action [N, H, A] (a_t leads from t to t + 1).
        """
        require_keys("Imagination", tensordict, self.in_keys)
        deter, stoch = tensordict.get(keys.DETER), tensordict.get(keys.STOCH)
        latent = "N S K: weight" if self.sizes else "N *: weight"  # a latent of another kind
        fields = {keys.DETER: (deter, "N D: weight"), keys.STOCH: (stoch, latent)}
        check("Imagination", self.rssm, self.sizes, fields)
        keep_graph = self.differentiable and torch.is_grad_enabled()
        with torch.set_grad_enabled(keep_graph), frozen(self.rssm):
            feats, actions = [self.rssm.feat(deter, stoch)], []
            for _ in range(self.horizon):
                deter, stoch, feat, action = self._step(deter, stoch, feats[-1])
                feats.append(feat)
                actions.append(action)
        return TensorDict(
            {keys.FEAT: torch.stack(feats, dim=1), keys.ACTION: torch.stack(actions, dim=1)},
            batch_size=tensordict.batch_size,
        )

    @region
    def _step(self, deter: Tensor, stoch: Tensor, feat: Tensor) -> tuple[Tensor, ...]:
        """Act in the state t: h and z of t + 1, their feat, and the action a_t."""
        action = self._act(feat)
        check("Imagination", None, self.sizes, {keys.ACTION: (action, "N A: one-hot")})
        deter, stoch, _ = self.rssm.img_step(deter, stoch, action)
        return deter, stoch, self.rssm.feat(deter, stoch), action

    def _act(self, feat: Tensor) -> Tensor:
        """Draw an action [N, A] for the state, through which no gradient goes."""
        policy = self.actor.get_dist(TensorDict({keys.FEAT: feat.detach()}, feat.shape[:1]))
        if not self.differentiable:
            return policy.sample()
        try:
            return policy.rsample()
        except (NotImplementedError, AttributeError) as error:
            raise ValueError(
                f"Imagination: {type(policy).__name__} has no rsample(), which gradients through "
                "the dynamics need. Use actor_grad=reinforce, or another distribution."
            ) from error
