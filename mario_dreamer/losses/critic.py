"""Critic loss: cross-entropy to lambda-returns, imagined and replayed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tensordict import NestedKey, TensorDict, TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import LossModule

from mario_dreamer import keys
from mario_dreamer.checks import check, check_states, require_head, require_keys
from mario_dreamer.distributions.divergence import sum_event
from mario_dreamer.losses.targets import Discount, lambda_return


class CriticLoss(LossModule):
    """Train the critic to predict the distribution of lambda-returns.

    Paper: arXiv:2301.04104, "Critic learning".

        L_imag   = mean_t sg(w_t) * ( -log v(R_t | s_t) - slow_scale * log v(slow_t | s_t) )
        L_replay = mean_t (1 - is_last_t) * ( the same, on replayed states and rewards )

    In imagination t = 0 .. H-1. In replay t = 0 .. T-2; its returns mix replayed rewards with
    the imagined return R_0 of each record's state as bootstrap, and its gradient goes on into
    the world model. Targets are scalars; the two-hot head spreads them over its bins.

    Args:
        critic: module with `in_keys` and `get_dist(td)`, over v_t; one that has a `params_key` has
            `build_dist_from_params(td)`, too.
        slow_critic: the same, never trained; None drops its term.
        slow_scale: weight of the term that pulls towards the slow critic.
        replay_scale: weight of L_replay; 0 (paper v1) leaves it out.
        discount: the agent's discount, for the replayed steps.
        lmbda: lambda of the replayed lambda-return.
        reduction: of both losses: "mean", "sum" or "none".

    Raises:
        TypeError: a critic has no `get_dist`.
    """

    @dataclass
    class _AcceptedKeys:
        """Keys that `set_keys` can rename; the critic says itself what it reads of s_t.

        Of imagined rollouts: lambda_return [..., H, 1]; weight [..., H + 1, 1].
        Of a batch of records: reward, is_last, is_terminal [B, T, 1].
        """

        lambda_return: NestedKey = keys.LAMBDA_RETURN
        weight: NestedKey = keys.WEIGHT
        reward: NestedKey = keys.REWARD
        is_last: NestedKey = keys.IS_LAST
        is_terminal: NestedKey = keys.IS_TERMINAL

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys
    functional = False  # modules stay as they are, their parameters in them

    def __init__(
        self,
        critic: nn.Module,
        slow_critic: nn.Module | None = None,
        *,
        slow_scale: float = 1.0,
        replay_scale: float = 0.3,
        discount: Discount = Discount(),
        lmbda: float = 0.95,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        for head in (critic,) if slow_critic is None else (critic, slow_critic):
            require_head("CriticLoss", head)
        self.critic, self.slow_critic = critic, slow_critic
        self.slow_scale, self.replay_scale = slow_scale, replay_scale
        self.discount, self.lmbda, self.reduction = discount, lmbda, reduction
        self.out_keys = ["loss_critic", "loss_critic_replay"]

    @property
    def in_keys(self) -> list[NestedKey]:
        """What imagined rollouts must hold."""
        return [*self._state_keys, self.tensor_keys.lambda_return, self.tensor_keys.weight]

    @property
    def _state_keys(self) -> list[NestedKey]:
        slow = [] if self.slow_critic is None else self.slow_critic.in_keys
        return list(dict.fromkeys([*self.critic.in_keys, *slow]))

    def forward(
        self, tensordict: TensorDictBase, replayed: TensorDictBase | None = None
    ) -> TensorDict:
        """Compute the loss of imagined rollouts and of the records they started from.

        Args:
            tensordict: rollouts [N] or [B, T]. Where `Returns` has run, the critic's parameters
                lie in it already and are not computed again.
            replayed: posterior states and records [B, T], T at least 2, graph attached, with
                B * T = N and rollout b * T + t started from record (b, t). None leaves L_replay
                out.

        Returns:
            `loss_critic` and, with `replayed`, `loss_critic_replay`, times replay_scale; nats,
            0-dim, with reduction "none" [..., H] and [B, T - 1].

        Raises:
            KeyError: a key is missing.
            ValueError: a shape does not fit, or the records are not those of the rollouts.
        """
        require_keys("CriticLoss", tensordict, self.in_keys, "batch of imagined rollouts")
        names = self.tensor_keys
        returns, weight = tensordict.get(names.lambda_return), tensordict.get(names.weight)
        fields = {names.lambda_return: (returns, "... H 1: number"),
                  names.weight: (weight, "... H+1 1: number")}  # fmt: skip
        check("CriticLoss", None, {}, fields)
        batch = " ".join(map(str, weight.shape[:-1]))  # [..., H + 1]
        check_states("CriticLoss", self.critic, tensordict, batch)
        returns = returns.detach()
        time, horizon = returns.ndim - 2, returns.shape[-2]
        states = tensordict.select(*self._state_keys).apply(
            lambda x: x.narrow(time, 0, horizon).detach()
        )
        nats = self._nats(self._imagined(tensordict, states), returns, states)  # [..., H]
        loss = self._reduce_loss(weight[..., :-1, 0].detach() * nats, tensordict)
        losses = TensorDict(loss_critic=loss)
        if replayed is not None and self.replay_scale:
            losses["loss_critic_replay"] = self.replay_scale * self._replay(replayed, returns)
        return losses

    def _imagined(self, tensordict: TensorDictBase, states: TensorDictBase) -> Any:
        """The critic's distribution for t < H, from its parameters where they are there."""
        key = getattr(self.critic, "params_key", None)
        if key is None or key not in tensordict.keys(include_nested=True):
            return self.critic.get_dist(states)
        params = tensordict.select(key).apply(lambda x: x[..., :-1, :])
        return self.critic.build_dist_from_params(params)

    def _nats(self, head: Any, target: Tensor, states: TensorDictBase) -> Tensor:
        """-log v(target) and the term towards the slow critic, [...] per state."""
        nats = -head.log_prob(target)
        if self.slow_critic is not None and self.slow_scale:
            slow = self.slow_critic.get_dist(states.detach()).mean.detach()
            nats = nats - self.slow_scale * head.log_prob(slow)
        return sum_event(nats, target.ndim - 1)

    def _replay(self, replayed: TensorDictBase, returns: Tensor) -> Tensor:
        """The loss on replayed lambda-returns; its gradient reaches the world model too."""
        names = self.tensor_keys
        read = [*self._state_keys, names.reward, names.is_last, names.is_terminal]
        require_keys("CriticLoss", replayed, read, "batch of records")
        reward, is_last = replayed.get(names.reward), replayed.get(names.is_last)
        is_terminal = replayed.get(names.is_terminal)
        fields = {names.reward: (reward, "B T+1 1: number"), names.is_last: (is_last, "B T+1 1: flag"),
                  names.is_terminal: (is_terminal, "B T+1 1: flag")}  # fmt: skip
        check("CriticLoss", returns.device, {}, fields)
        check_states("CriticLoss", self.critic, replayed, " ".join(map(str, reward.shape[:2])))
        starts = returns[..., 0, :]
        if reward.numel() != starts.numel():
            raise ValueError(
                f"CriticLoss: {starts.numel()} imagined rollouts do not start from the "
                f"{reward.numel()} records given; imagine from every record, in the same order."
            )
        bootstrap = starts.reshape(reward.shape)  # [B, T, 1]
        alive = (~is_terminal).to(bootstrap.dtype)
        target = lambda_return(
            reward, bootstrap, self.discount.gamma * alive, is_last, self.lmbda
        )  # [B, T - 1, 1]
        states = replayed.select(*self._state_keys, *self._loss_mask_keys(), strict=False).apply(
            lambda x: x[:, :-1], batch_size=reward.shape[:1]
        )
        nats = self._nats(self.critic.get_dist(states), target, states)  # [B, T - 1]
        valid = (~is_last[:, :-1]).to(nats.dtype).squeeze(-1)
        return self._reduce_loss(valid * nats, states)
