"""What a dream is worth: lambda-returns, continuation weights, normalised advantages."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import nn
from torchrl.modules import PercentileValueNorm

from mario_dreamer import keys
from mario_dreamer.checks import check, require_keys
from mario_dreamer.losses.targets import Discount, continuation_weights, lambda_return

__all__ = ["Returns"]


class Returns(TensorDictModuleBase):
    """Judge a dream: how good was it, and how much better than expected?

    Paper: arXiv:2301.04104, "Critic learning" and "Actor learning".

        R_t = lambda-return of the predicted rewards, bootstrapped with the critic
        S   = max(1, EMA(Per(R, 95) - Per(R, 5)))      per percentile, rate 0.01, before use
        A_t = (R_t - v_t) / S

    Args:
        reward, cont, critic: heads on feat, each a `DistributionModule` or a TorchRL
            probabilistic module writing its value under the key of the same name.
        discount: the agent's discount.
        lmbda: lambda of the lambda-return.
        normalize: divide advantages by S; False leaves them as they are.
        alive_start: True (Nature): w_0 is the continue head's word on the start state, so that
            dreams of the dead teach nothing. False (paper v1): w_0 = 1.
    """

    def __init__(
        self,
        reward: nn.Module,
        cont: nn.Module,
        critic: nn.Module,
        discount: Discount = Discount(),
        lmbda: float = 0.95,
        normalize: bool = True,
        alive_start: bool = True,
    ) -> None:
        super().__init__()
        self.reward = reward
        self.cont = cont
        self.critic = critic
        self.discount = discount
        self.lmbda = lmbda
        self.alive_start = alive_start
        self.norm = PercentileValueNorm(shape=1) if normalize else None
        self.in_keys = [keys.FEAT]
        self.out_keys = [keys.REWARD, keys.CONT, keys.VALUE, keys.LAMBDA_RETURN]
        self.out_keys += [keys.WEIGHT, keys.ADVANTAGE]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write rewards, values, returns, weights and advantages of a dream.

        Args:
            tensordict: [N], with feat [N, H + 1, F].

        Returns:
            the same with reward, cont, value [N, H + 1, 1]; lambda_return and advantage
            [N, H, 1]; weight [N, H + 1, 1]. Only what the critic wrote carries a gradient:
            its parameters serve the critic's loss, so the critic runs once.
        """
        require_keys("Returns", tensordict, self.in_keys)
        feat = tensordict.get(keys.FEAT)
        check("Returns", None, {}, {keys.FEAT: (feat, "N H+1 F: float")})
        self.critic(tensordict)
        with torch.no_grad():
            self.reward(tensordict)
            self.cont(tensordict)
            value = tensordict[keys.VALUE].detach()
            cont = tensordict[keys.CONT]
            discount = self.discount.per_step(cont)
            returns = lambda_return(tensordict[keys.REWARD], value, discount, None, self.lmbda)
            first = cont[..., 0, :] if self.alive_start else torch.ones_like(cont[..., 0, :])
            advantage = returns - value[..., :-1, :]
            if self.norm is not None:
                self.norm.update(returns)
                advantage = advantage / self.norm.scale()
        tensordict.set(keys.LAMBDA_RETURN, returns)
        tensordict.set(keys.WEIGHT, continuation_weights(discount, first))
        return tensordict.set(keys.ADVANTAGE, advantage)
