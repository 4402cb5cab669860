"""Dreams: the actor's steps inside the world model, from every state it has just seen."""

from __future__ import annotations

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import nn

from mario_dreamer import keys
from mario_dreamer.checks import check, require_keys

__all__ = ["Imagination"]


class Imagination(TensorDictModuleBase):
    """Roll the actor forward in the world model's prior, without a frame in sight.

    Paper: arXiv:2301.04104, "Actor critic learning".

        a_t ~ pi(a_t | sg(h_t, z_t))
        h_{t+1} = f(h_t, z_t, a_t),  z_{t+1} ~ p(z_{t+1} | h_{t+1})      t = 0 .. H-1

    Nothing here carries a gradient: the actor learns by REINFORCE, whose gradient comes from
    evaluating the policy once more on all dreamed states at a time.

    Args:
        rssm: has `img_step(deter, stoch, action)` and `feat(deter, stoch)`.
        actor: has `get_dist(tensordict)`; the distribution has `sample()`.
        horizon: H, number of imagined steps, at least 1.

    Raises:
        ValueError: when `horizon` is less than 1.
    """

    def __init__(self, rssm: nn.Module, actor: nn.Module, horizon: int = 15) -> None:
        super().__init__()
        if horizon < 1:
            raise ValueError(f"Imagination: imag_horizon must be at least 1, got {horizon}.")
        self.rssm = rssm
        self.actor = actor
        self.horizon = horizon
        self.in_keys = [keys.DETER, keys.STOCH]
        self.out_keys = [keys.FEAT, keys.ACTION]

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Dream from each of N states.

        Args:
            tensordict: [N], with deter h_0 [N, D] and stoch z_0 [N, S, K].

        Returns:
            TensorDict [N] with feat [N, H + 1, F] (t = 0 is the start state) and
            action [N, H, A] (a_t leads from t to t + 1).
        """
        require_keys("Imagination", tensordict, self.in_keys)
        deter, stoch = tensordict.get(keys.DETER), tensordict.get(keys.STOCH)
        fields = {keys.DETER: (deter, "N D: float"), keys.STOCH: (stoch, "N S K: float")}
        check("Imagination", self.rssm, getattr(self.rssm, "sizes", {}), fields)
        feats, actions = [self.rssm.feat(deter, stoch)], []
        for _ in range(self.horizon):
            state = TensorDict({keys.FEAT: feats[-1]}, batch_size=tensordict.batch_size)
            actions.append(self.actor.get_dist(state).sample())
            deter, stoch, _ = self.rssm.img_step(deter, stoch, actions[-1])
            feats.append(self.rssm.feat(deter, stoch))
        return TensorDict(
            {keys.FEAT: torch.stack(feats, dim=1), keys.ACTION: torch.stack(actions, dim=1)},
            batch_size=tensordict.batch_size,
        )
