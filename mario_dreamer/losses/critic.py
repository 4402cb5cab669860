"""The critic's loss: know what a state is worth, in dreams and on the record."""

from __future__ import annotations

from dataclasses import dataclass

from tensordict import NestedKey, TensorDict, TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import LossModule

from mario_dreamer import keys
from mario_dreamer.checks import check
from mario_dreamer.losses.checks import require
from mario_dreamer.losses.targets import Discount, lambda_return

__all__ = ["CriticLoss"]


class CriticLoss(LossModule):
    """Teach the critic the distribution of lambda-returns.

    Paper: arXiv:2301.04104, "Critic learning".

        L_dream  = mean_t sg(w_t) * ( -log v(R_t | s_t) - slow_scale * log v(slow_t | s_t) )
        L_replay = mean_t (1 - is_last_t) * ( the same, on recorded states and rewards )

    In the dream t = 0 .. H-1. On the record t = 0 .. T-2; its returns mix recorded rewards with
    the dreamed return R_0 of each record's state as bootstrap, and its gradient goes on into the
    world model. Targets are scalars; the two-hot head spreads them over its bins.

    Args:
        critic: module with `get_dist(td)` and `build_dist_from_params(td)`, over v_t.
        slow_critic: the same, never trained; None drops its term.
        slow_scale: weight of the pull towards the slow critic.
        replay_scale: weight of L_replay; 0 (paper v1) leaves it out.
        discount: the agent's discount, for the recorded steps.
        lmbda: lambda of the recorded lambda-return.
    """

    @dataclass
    class _AcceptedKeys:
        """Keys that `set_keys` can rename.

        Of a dream: value_params, what the critic's network returned, [N, H + 1, P];
        feat [N, H + 1, F]; lambda_return [N, H, 1]; weight [N, H + 1, 1].
        Of a batch of records: reward, is_last, is_terminal [B, T, 1].
        """

        feat: NestedKey = keys.FEAT
        lambda_return: NestedKey = keys.LAMBDA_RETURN
        weight: NestedKey = keys.WEIGHT
        reward: NestedKey = keys.REWARD
        is_last: NestedKey = keys.IS_LAST
        is_terminal: NestedKey = keys.IS_TERMINAL

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys

    def __init__(
        self,
        critic: nn.Module,
        slow_critic: nn.Module | None = None,
        *,
        slow_scale: float = 1.0,
        replay_scale: float = 0.3,
        discount: Discount = Discount(),
        lmbda: float = 0.95,
    ) -> None:
        super().__init__()
        self.critic = critic
        self.slow_critic = slow_critic
        self.slow_scale = slow_scale
        self.replay_scale = replay_scale
        self.discount = discount
        self.lmbda = lmbda
        self.out_keys = ["loss_critic", "loss_critic_replay"]

    @property
    def in_keys(self) -> list[NestedKey]:
        """What a dream must hold."""
        return [self.tensor_keys.feat, self.tensor_keys.lambda_return, self.tensor_keys.weight]

    def _forward_value_estimator_keys(self, **kwargs: NestedKey) -> None:
        """Returns come ready made: there is no value estimator to tell."""

    def forward(
        self, tensordict: TensorDictBase, replayed: TensorDictBase | None = None
    ) -> TensorDict:
        """Compute the loss of N dreams and, where given, of the records they started from.

        Args:
            tensordict: dreams [N]. Where `Returns` has run, the critic's parameters lie in it
                already and are not computed again.
            replayed: posterior states and records [B, T], graph attached, with B * T = N and
                dream b * T + t started from record (b, t).

        Returns:
            `loss_critic`, `loss_critic_replay` (where asked for); nats, 0-dim.

        Raises:
            KeyError: when a key is missing.
            ValueError: when the records are not those that the dreams started from.
        """
        require(self, tensordict, "dream")
        names = self.tensor_keys
        wanted = {names.lambda_return: "N H 1: number", names.weight: "N H+1 1: number",
                  names.feat: "N H+1 F: float"}  # fmt: skip
        fields = {key: (tensordict.get(key), shape) for key, shape in wanted.items()}
        check("CriticLoss", None, {}, fields)
        returns = tensordict[self.tensor_keys.lambda_return].detach()  # [N, H, 1]
        horizon = returns.shape[1]
        feat = tensordict[self.tensor_keys.feat].detach()
        states = TensorDict({keys.FEAT: feat}, batch_size=tensordict.batch_size)
        params_key = getattr(self.critic, "params_key", None)
        if params_key is not None and params_key in tensordict.keys(include_nested=True):
            params = tensordict[params_key][:, :horizon]
            head = self.critic.build_dist_from_params(
                TensorDict({params_key: params}, batch_size=tensordict.batch_size)
            )
        else:
            head = self.critic.get_dist(states.apply(lambda x: x[:, :horizon]))
        nats = self._nats(head, returns, states.apply(lambda x: x[:, :horizon]))  # [N, H]
        weight = tensordict[self.tensor_keys.weight][:, :horizon].detach().squeeze(-1)
        assert nats.shape == weight.shape, f"CriticLoss: {nats.shape}, {weight.shape}"
        losses = TensorDict(loss_critic=(weight * nats).mean())
        if replayed is not None and self.replay_scale:
            losses["loss_critic_replay"] = self.replay_scale * self._replay(replayed, returns)
        return losses

    def _nats(self, head: object, target: Tensor, states: TensorDictBase) -> Tensor:
        """-log v(target) and the pull towards the slow critic, [..., ] per state."""
        nats = -head.log_prob(target)
        if self.slow_critic is not None and self.slow_scale:
            slow = self.slow_critic.get_dist(states.detach()).mean.detach()
            nats = nats - self.slow_scale * head.log_prob(slow)
        return nats

    def _replay(self, replayed: TensorDictBase, returns: Tensor) -> Tensor:
        """The recorded lambda-returns, learned by critic and world model alike."""
        names = self.tensor_keys
        read = [names.feat, names.reward, names.is_last, names.is_terminal]
        require(self, replayed, "batch of records", read)
        wanted = {names.feat: "B T F: float", names.reward: "B T 1: number",
                  names.is_last: "B T 1: flag", names.is_terminal: "B T 1: flag"}  # fmt: skip
        fields = {key: (replayed.get(key), shape) for key, shape in wanted.items()}
        check("CriticLoss", returns.device, {}, fields)
        if replayed.numel() != returns.shape[0]:
            raise ValueError(
                f"CriticLoss: {returns.shape[0]} dreams do not start from the "
                f"{replayed.numel()} records given; dream from every record, in the same order."
            )
        bootstrap = returns[:, 0].reshape(*replayed.batch_size, 1)  # [B, T, 1]
        alive = (~replayed[names.is_terminal]).to(bootstrap.dtype)
        target = lambda_return(
            replayed[names.reward],
            bootstrap,
            self.discount.gamma * alive,
            replayed[names.is_last],
            self.lmbda,
        )  # [B, T - 1, 1]
        states = TensorDict({keys.FEAT: replayed[names.feat][:, :-1]}, replayed.batch_size[:1])
        nats = self._nats(self.critic.get_dist(states), target, states)  # [B, T - 1]
        valid = (~replayed[names.is_last][:, :-1]).to(nats.dtype).squeeze(-1)
        return (valid * nats).mean()
