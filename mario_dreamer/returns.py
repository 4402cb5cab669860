"""What a dream is worth: lambda-returns, continuation weights, normalised advantages."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torchrl.modules import PercentileValueNorm

from mario_dreamer import keys
from mario_dreamer.border import check, require_keys

__all__ = ["Discount", "Returns", "continuation_weights", "lambda_return"]


class Discount:
    """Hold the one discount of the agent, for the continue head, the dreams and the replay.

    Paper: arXiv:2301.04104, "Actor critic learning": gamma = 1 - 1/333.

    Args:
        gamma: discount per agent step, in (0, 1].
        learned: True (Nature): the continue head is taught gamma * c_t, so its probability is
            already discounted. False (paper v1, the seed): it is taught c_t, and gamma is
            multiplied in afterwards.

    Raises:
        ValueError: when gamma lies outside (0, 1].
    """

    # Not a dataclass: Hydra would take an instance apart when it passes through `instantiate`.
    def __init__(self, gamma: float = 1 - 1 / 333, learned: bool = True) -> None:
        if not 0 < gamma <= 1:
            raise ValueError(f"Discount: gamma must lie in (0, 1], got {gamma}.")
        self.gamma = gamma
        self.learned = learned

    def cont_target(self, is_terminal: Tensor) -> Tensor:
        """Return what the continue head is to predict, in [0, 1], shaped as `is_terminal`."""
        return (~is_terminal).float() * (self.gamma if self.learned else 1.0)

    def per_step(self, cont: Tensor) -> Tensor:
        """Return gamma * c_t, whichever of the two the continue head predicts."""
        return cont if self.learned else self.gamma * cont


def lambda_return(
    reward: Tensor, value: Tensor, discount: Tensor, is_last: Tensor | None, lmbda: float
) -> Tensor:
    """Mix n-step returns of every length, longer ones with falling weight.

    Paper: arXiv:2301.04104, "Critic learning". The reward belongs to the state it arrives with:

        R_{L-1} = v_{L-1}
        R_t     = r_{t+1} + d_{t+1} * ((1 - k_{t+1}) * v_{t+1} + k_{t+1} * R_{t+1})
        k_t     = lmbda, but 0 where the record at t is the last of its episode

    Args:
        reward: r_t, [..., L, 1]; r_0 is not used.
        value: v_t to bootstrap from, [..., L, 1].
        discount: d_t = gamma * c_t, [..., L, 1], in [0, 1]; 0 where the episode ended.
        is_last: t closes its episode, [..., L, 1] bool; None where no episode is cut.
        lmbda: lambda, in [0, 1].

    Returns:
        R_t for t = 0 .. L-2, [..., L - 1, 1].
    """
    assert reward.shape == value.shape == discount.shape, (
        f"lambda_return: shapes differ: {reward.shape}, {value.shape}, {discount.shape}"
    )
    trace = torch.full_like(value, lmbda)
    if is_last is not None:
        trace = trace * (~is_last).to(value.dtype)
    # What of R_t does not depend on R_{t+1} is computed for all t at once.
    direct = (reward + discount * (1 - trace) * value).unbind(-2)
    carry = (discount * trace).unbind(-2)
    result, out = value[..., -1, :], []
    for t in range(len(direct) - 1, 0, -1):
        result = direct[t] + carry[t] * result
        out.append(result)
    return torch.stack(out[::-1], dim=-2)


def continuation_weights(discount: Tensor, first: Tensor) -> Tensor:
    """Weigh each dreamed state by the chance that the dream is still alive there.

        w_0 = first,   w_t = first * d_1 * ... * d_t

    Args:
        discount: d_t, [..., L, 1].
        first: w_0, [..., 1]: the chance that the start state itself is alive.

    Returns:
        weights, [..., L, 1], in [0, 1].
    """
    return torch.cumprod(torch.cat([first[..., None, :], discount[..., 1:, :]], dim=-2), dim=-2)


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
