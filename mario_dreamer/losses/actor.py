"""Actor loss: REINFORCE on imagined rollouts with an entropy bonus."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from tensordict.nn import dispatch
from torch import Tensor, nn
from torchrl.objectives import LossModule

from mario_dreamer import keys
from mario_dreamer.checks import check, check_states, require_head, require_keys


class ActorLoss(LossModule):
    """Make imagined actions likelier the more they exceeded the critic's expectation.

    Paper: arXiv:2301.04104, "Actor learning".

        reinforce  L = mean_t sg(w_t) * ( -log pi(a_t | sg(s_t)) * sg(A_t) - eta * H_t )
        dynamics   L = mean_t sg(w_t) * ( -A_t                             - eta * H_t )

    with t = 0 .. H-1, A_t = (R_t - sg(v_t)) / S, H_t the entropy of pi(. | sg(s_t)), and w_t the
    weight of `Returns`. `dynamics` needs an A_t whose graph leads through the world model to the
    actor (`Imagination(differentiable=True)`).

    Args:
        actor: module with `in_keys` and `get_dist(tensordict)`; the distribution has log_prob,
            [..., H]. Without a closed entropy() it needs sample() or rsample().
        entropy_scale: eta, weight of a nat of entropy; 0 asks for no entropy where there is no
            closed form.
        actor_grad: "reinforce" or "dynamics".
        reduction: of the loss over all steps: "mean", "sum" or "none".

    Raises:
        ValueError: another `actor_grad`. TypeError: the actor has no `get_dist`.
    """

    # `loss.entropy_scale = 0.001` writes into the buffer, as in TorchRL's own losses.
    _schedulable_buffers = frozenset({"entropy_scale"})

    @dataclass
    class _AcceptedKeys:
        """Keys that `set_keys` can rename; the actor says itself what it reads of s_t.

        action: a_t, [..., H, A], or indices [..., H].  advantage: A_t, [..., H, 1].
        weight: w_t, [..., H + 1, 1].
        """

        action: NestedKey = keys.ACTION
        advantage: NestedKey = keys.ADVANTAGE
        weight: NestedKey = keys.WEIGHT

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys
    functional = False  # modules stay as they are, their parameters in them

    def __init__(
        self,
        actor: nn.Module,
        *,
        entropy_scale: float = 3e-4,
        actor_grad: str = "reinforce",
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        if actor_grad not in ("reinforce", "dynamics"):
            raise ValueError(f"actor_grad must be reinforce or dynamics; got {actor_grad!r}.")
        require_head("ActorLoss", actor)
        self.actor = actor
        self.actor_grad, self.reduction = actor_grad, reduction
        self.wants_entropy = entropy_scale > 0
        # A buffer, so that a schedule may change it under a recorded CUDA graph.
        self.register_buffer("entropy_scale", torch.tensor(entropy_scale), persistent=False)
        self.out_keys = ["loss_actor", "entropy", "advantage_std"]

    @property
    def in_keys(self) -> list[NestedKey]:
        """What imagined rollouts must hold."""
        names = self.tensor_keys
        return [*self.actor.in_keys, names.action, names.advantage, names.weight]

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Compute the loss of imagined rollouts of H steps.

        Args:
            tensordict: [N] or [B, T], with the keys of `in_keys`; s_t is [..., H + 1, *].

        Returns:
            `loss_actor`, 0-dim (with reduction "none" [..., H]), and the 0-dim metrics entropy
            (nats per step; nan where none was computed) and advantage_std.

        Raises:
            KeyError: a key is missing.
            ValueError: a shape, or the shape of the distribution's log_prob, does not fit; or
                `dynamics` with an advantage that has no graph.
        """
        require_keys("ActorLoss", tensordict, self.in_keys)
        names = self.tensor_keys
        action, advantage = tensordict.get(names.action), tensordict.get(names.advantage)
        weight = tensordict.get(names.weight)
        fields = {names.advantage: (advantage, "... H 1: float"),
                  names.weight: (weight, "... H+1 1: number")}  # fmt: skip
        check("ActorLoss", None, {}, fields)
        check_states("ActorLoss", self.actor, tensordict, " ".join(map(str, weight.shape[:-1])))
        steps, sizes = " ".join(map(str, advantage.shape[:-1])), getattr(self.actor, "sizes", {})
        wanted = f"{steps} {'A' if 'A' in sizes else '*'}: one-hot"
        check("ActorLoss", weight.device, sizes, {names.action: (action, wanted)})
        *lead, horizon, _ = advantage.shape
        states = tensordict.select(*self.actor.in_keys).apply(
            lambda x: x.narrow(len(lead), 0, horizon).detach()
        )
        policy = self.actor.get_dist(states)
        advantage = advantage.squeeze(-1)  # [..., H]
        weight = weight[..., :-1, 0].detach()
        if self.actor_grad == "dynamics":
            if torch.is_grad_enabled() and not advantage.requires_grad:
                raise ValueError(
                    f"ActorLoss: {names.advantage!r} has no graph for actor_grad=dynamics to follow "
                    "to the actor. Imagination(differentiable=True) keeps it."
                )
            gain = advantage
        else:
            log_prob = policy.log_prob(action.detach())
            _check_per_step(policy, f"log_prob of actions {list(action.shape)}", log_prob, weight)
            gain = log_prob * advantage.detach()
        entropy = entropy_of(policy, self.wants_entropy)
        if entropy is not None:
            _check_per_step(policy, "entropy", entropy, weight)
            gain = gain + self.entropy_scale * entropy
        return TensorDict(
            loss_actor=self._reduce_loss(-(weight * gain), tensordict),
            entropy=weight.new_full((), math.nan) if entropy is None else entropy.detach().mean(),
            advantage_std=advantage.detach().std(correction=0),
        )


def entropy_of(policy: Any, sampled: bool = True) -> Tensor | None:
    """Entropy of a distribution in nats, [...]; without a closed form, estimated from a sample.

        with rsample       -log p(x),  x reparametrised
        without            the same value, with the gradient -log p(x) * grad log p(x)

    Args:
        policy: a distribution.
        sampled: False: None where there is no closed form.
    """
    try:
        return policy.entropy()
    except (NotImplementedError, AttributeError):
        if not sampled:
            return None
    if getattr(policy, "has_rsample", hasattr(policy, "rsample")):
        return -policy.log_prob(policy.rsample())
    log_prob = policy.log_prob(policy.sample().detach())
    return -log_prob.detach() * (1 + log_prob - log_prob.detach())


def _check_per_step(policy: Any, what: str, found: Tensor, weight: Tensor) -> None:
    """Refuse a distribution that does not give one number for each step."""
    if found.shape != weight.shape:
        raise ValueError(
            f"ActorLoss: {type(policy).__name__}: the {what} has the shape {list(found.shape)}; "
            f"expected {list(weight.shape)}, one number for each step. A distribution over "
            "several numbers sums over them: torch.distributions.Independent(dist, 1)."
        )
