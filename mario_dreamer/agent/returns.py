"""Returns of imagined rollouts: lambda-returns, continuation weights, normalised advantages."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torchrl.modules import PercentileValueNorm

from mario_dreamer import keys
from mario_dreamer.checks import check, require_keys
from mario_dreamer.losses.targets import Discount, continuation_weights, lambda_return
from mario_dreamer.networks.frozen import frozen


class Returns(TensorDictModuleBase):
    """Compute the returns of imagined rollouts, and how much they exceed the values.

    Paper: arXiv:2301.04104, "Critic learning" and "Actor learning".

        R_t = lambda-return of the predicted rewards, bootstrapped with the critic
        S   = max(1, EMA(Per(R, 95) - Per(R, 5)))      per percentile, rate 0.01, before use
        A_t = (R_t - v_t) / S

    Args:
        reward, cont, critic: heads on feat, each a `DistributionModule` or a TorchRL
            probabilistic module; of its distribution the mean counts.
        discount: the agent's discount.
        lmbda: lambda of the lambda-return.
        normalize: divide advantages by S; False leaves them as they are.
        alive_start: True (Nature): w_0 is what the continue head predicts of the start state.
            False (paper v1): w_0 = 1 - is_terminal of the record that the rollout started from,
            where the input holds `is_terminal` [..., 1] bool, else 1.
        gather: takes the returns here and gives those of all processes that learn together, such
            as `Processes.gather`; None: those here are all.
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
        gather: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.reward = reward
        self.cont = cont
        self.critic = critic
        self.discount = discount
        self.lmbda = lmbda
        self.alive_start = alive_start
        self.gather = gather
        self.norm = PercentileValueNorm(shape=1) if normalize else None
        self.in_keys = [keys.FEAT]
        self.out_keys = [keys.REWARD, keys.CONT, keys.VALUE, keys.LAMBDA_RETURN]
        self.out_keys += [keys.WEIGHT, keys.ADVANTAGE]

    def forward(self, tensordict: TensorDictBase, update_range: bool = False) -> TensorDictBase:
        """Write rewards, values, returns, weights and advantages of imagined rollouts.

        Args:
            tensordict: [N] or [B, T], with feat [..., H + 1, F].
            update_range: move the running percentiles first, as training does (the learner takes
                that back where a loss is not finite).

        Returns:
            the same with reward, cont, value [..., H + 1, 1]; lambda_return and advantage
            [..., H, 1]; weight [..., H + 1, 1]. Of these only what the critic wrote carries a
            gradient to parameters: they serve the critic's loss, so the critic runs once. Where
            feat carries a graph (`Imagination(differentiable=True)`), all but the weight lead
            back to feat, and to no parameter of the heads.
        """
        require_keys("Returns", tensordict, self.in_keys)
        feat = tensordict.get(keys.FEAT)
        sizes = getattr(self.critic, "sizes", {})
        fields = {keys.FEAT: (feat, "... H+1 F: weight")}
        if not self.alive_start and keys.IS_TERMINAL in tensordict:
            fields[keys.IS_TERMINAL] = tensordict.get(keys.IS_TERMINAL), "... 1: flag"
        check("Returns", self.critic, sizes, fields)
        differentiable = feat.requires_grad
        heads = (self.reward, self.cont, self.critic) if differentiable else ()
        with frozen(*heads):
            if hasattr(self.critic, "params_key"):  # the critic's loss takes the parameters over
                self.critic(tensordict)
            else:
                tensordict.set(keys.VALUE, self.critic.get_dist(tensordict).mean)
            with torch.set_grad_enabled(differentiable):
                self._compute(tensordict, update_range)
        if differentiable:  # its graph leads to the actor: the critic's loss runs the critic again
            tensordict = tensordict.exclude(getattr(self.critic, "params_key", keys.VALUE))
        return tensordict

    def _compute(self, tensordict: TensorDictBase, update_range: bool) -> None:
        for key, head in ((keys.REWARD, self.reward), (keys.CONT, self.cont)):
            tensordict.set(key, head.get_dist(tensordict).mean)
        value, cont = tensordict[keys.VALUE], tensordict[keys.CONT]
        if not torch.is_grad_enabled():
            value = value.detach()
        discount = self.discount.per_step(cont)
        returns = lambda_return(tensordict[keys.REWARD], value, discount, None, self.lmbda)
        first = cont[..., 0, :]
        if not self.alive_start:
            ended = tensordict.get(keys.IS_TERMINAL, None)
            first = torch.ones_like(first) if ended is None else (~ended).to(first.dtype)
        advantage = returns - value[..., :-1, :].detach()
        if self.norm is not None:
            if update_range:
                seen = returns.detach()
                self.norm.update(seen if self.gather is None else self.gather(seen))
            advantage = advantage / self.norm.scale()
        tensordict.set(keys.LAMBDA_RETURN, returns)
        tensordict.set(keys.WEIGHT, continuation_weights(discount, first).detach())
        tensordict.set(keys.ADVANTAGE, advantage)
