"""One gradient step of everything: the paper's update, from a batch of records to new weights."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import nn

from mario_dreamer import keys
from mario_dreamer.agent.critic import SlowCritic
from mario_dreamer.agent.distribution_module import DistributionModule
from mario_dreamer.agent.imagination import Imagination
from mario_dreamer.agent.returns import Returns
from mario_dreamer.agent.world_model import WorldModel
from mario_dreamer.losses import ActorLoss, CriticLoss, WorldModelLoss
from mario_dreamer.training.acceleration import accelerate, autocast, capture
from mario_dreamer.training.distributed import Processes, ProcessLost
from mario_dreamer.training.optim import ClippedOptimizer

__all__ = ["Learner", "NonFiniteLoss", "load_modules"]


class NonFiniteLoss(RuntimeError):
    """A term of the loss is NaN or infinite; the weights are still those of before."""


class Learner:
    """Improve world model, critic and actor together from one batch of records.

    Paper: arXiv:2301.04104, Algorithm "DreamerV3".

    Args:
        world_model, actor, critic, slow_critic: the agent.
        imagination, returns: dreams and their worth.
        world_model_loss, actor_loss, critic_loss: what is minimised, summed.
        optimizer: steps all parameters.
        device: where the networks are.
        dtype: autocast type; None for float32.
        compile: one of `acceleration.MODES`, see `accelerate` and `capture` there.
        imagination_starts: dream from the last so many records of each sequence; None for all.
        average_rate: share of world model and actor that their running average takes over at
            each update, in (0, 1]; None keeps no average.
        processes: average gradients and metrics over them; None learns alone.
    """

    def __init__(
        self,
        world_model: WorldModel,
        actor: DistributionModule,
        critic: DistributionModule,
        slow_critic: SlowCritic,
        imagination: Imagination,
        returns: Returns,
        world_model_loss: WorldModelLoss,
        actor_loss: ActorLoss,
        critic_loss: CriticLoss,
        optimizer: ClippedOptimizer,
        device: torch.device = torch.device("cpu"),
        dtype: torch.dtype | None = None,
        compile: str = "off",
        imagination_starts: int | None = None,
        average_rate: float | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.world_model, self.actor, self.critic = world_model, actor, critic
        self.slow_critic = slow_critic
        self.imagination, self.returns = imagination, returns
        self.world_model_loss = world_model_loss
        self.actor_loss, self.critic_loss = actor_loss, critic_loss
        self.optimizer = optimizer
        self.device, self.dtype = device, dtype
        self.imagination_starts = imagination_starts
        self.average_rate = average_rate
        self.processes = processes or Processes()
        self.average: nn.ModuleDict | None = None
        if average_rate is not None:
            self.average = copy.deepcopy(nn.ModuleDict({"world_model": world_model, "actor": actor}))
            self.average.requires_grad_(False)
        self.updates = 0
        # GPU: a term that was not finite since the last `check`; the updates it spoiled were void.
        self._spoiled = torch.zeros((), device=device)
        self._forward_backward = accelerate(self.forward_backward, compile, device)
        self._step = capture(self.step, compile, device)

    def forward_backward(self, records: TensorDictBase) -> TensorDict:
        """Compute all losses of one batch, and their gradients.

        Args:
            records: [B, T], on the learner's device.

        Returns:
            every loss term and metric, 0-dim, no graph; and deter, stoch of the posterior.
        """
        # Look back: what happened, and was it foreseen?
        with autocast(self.device, self.dtype):
            losses, posterior = self.world_model_loss(records)

        # Look ahead: dream on from every state.
        starts = posterior
        if self.imagination_starts is not None:
            starts = posterior[:, -self.imagination_starts :]
        states = starts.select(keys.DETER, keys.STOCH).detach().reshape(-1)  # [B, T] -> [N]
        with autocast(self.device, self.dtype):
            dream = self.imagination(states)
            dream[keys.IS_TERMINAL] = starts[keys.IS_TERMINAL].reshape(-1, 1)

        # Judge the dream, learn from it.
        with autocast(self.device, self.dtype):
            dream = self.returns(dream, update_range=True)
            losses.update(self.actor_loss(dream))
            losses.update(self.critic_loss(dream, starts))
        total = sum(value for name, value in losses.items() if name.startswith("loss_"))
        total.backward()
        losses.update(self._facts(dream))
        losses["total"] = total
        losses = losses.detach()
        losses["posterior"] = posterior.select(keys.DETER, keys.STOCH).detach()
        return losses

    @torch.no_grad()
    def _facts(self, dream: TensorDictBase) -> dict[str, torch.Tensor]:
        """What is only looked at: metrics of the dream, 0-dim each."""
        returns, norm = dream[keys.LAMBDA_RETURN], self.returns.norm
        return {
            "return_mean": returns.mean(),
            "return_std": returns.std(correction=0),
            "return_scale": returns.new_ones(()) if norm is None else norm.scale().squeeze(),
            "value_mean": dream[keys.VALUE].detach().mean(),
            "reward_mean": dream[keys.REWARD][:, 1:].mean(),
            "cont_mean": dream[keys.CONT].mean(),
            "weight_mean": dream[keys.WEIGHT].mean(),
        }

    def step(self, records: TensorDictBase) -> TensorDict:
        """Everything an update does on the device: losses, gradients, optimiser, slow critic.

        On a GPU all of it is one CUDA graph where asked for, so nothing here waits for a number.

        Args:
            records: [B, T], on the learner's device.

        Returns:
            as `forward_backward`, and the optimiser's metrics.
        """
        metrics = self._forward_backward(records)
        self.processes.average_(self.optimizer.parameters(), metrics)
        if self.device.type == "cpu":
            self.check(metrics)
        else:
            self._void_if_spoiled(metrics)
        metrics.update(self.optimizer.step())
        self.optimizer.zero_grad()
        self.slow_critic.follow(self.critic)
        self._follow()
        return metrics

    def update(self, records: TensorDictBase) -> TensorDict:
        """Take one step; return the metrics, still on the device, and the posterior states.

        Args:
            records: [B, T] from replay, on any device.

        Raises:
            NonFiniteLoss: on CPU, when a term is NaN or infinite, before any weight has changed.
                A GPU makes such an update void instead, and `check` tells when metrics are fetched.
            ProcessLost: another process that learns with this one ended; likewise.
        """
        for key, value in records.items():
            if not isinstance(value, torch.Tensor) or value.device.type == "meta":
                raise TypeError(f"Learner.update: {key} must be a tensor with data; got {value!r}.")
        norm = self.returns.norm if self.device.type == "cpu" else None
        range_before = [] if norm is None else [buffer.clone() for buffer in norm.buffers()]
        try:
            metrics = self._step(records.to(self.device, non_blocking=True))
        except (NonFiniteLoss, ProcessLost):  # leave nothing of it behind
            self.optimizer.zero_grad()
            for buffer, before in zip(norm.buffers() if norm else [], range_before, strict=True):
                buffer.copy_(before)
            raise
        self.updates += 1
        return metrics

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the averaged weights one step towards those of now."""
        if self.average is not None:
            now = [*self.world_model.parameters(), *self.actor.parameters()]
            torch._foreach_lerp_(list(self.average.parameters()), now, self.average_rate)

    @torch.no_grad()
    def _void_if_spoiled(self, metrics: TensorDictBase) -> None:
        """Set all gradients to zero where the loss is not finite, and remember that it was so."""
        good = torch.isfinite(metrics["total"])
        for param in self.optimizer.parameters():
            if param.grad is not None:
                param.grad.copy_(torch.where(good, param.grad, 0.0))
        self._spoiled.add_((~good).float())

    def check(self, metrics: TensorDictBase) -> None:
        """Raise NonFiniteLoss, naming the terms, when a loss was not a finite number.

        Args:
            metrics: of the last update.
        """
        if bool(torch.isfinite(metrics["total"])) and not bool(self._spoiled):
            return
        self._spoiled.zero_()
        terms = {name: float(metrics[name]) for name in metrics.keys() if name.startswith("loss_")}
        bad = [name for name, value in terms.items() if not math.isfinite(value)]
        raise NonFiniteLoss(
            f"update {self.updates + 1}: {', '.join(bad) or 'the total loss'} is not finite "
            f"({terms}). Lower the learning rate, or set precision=fp32 to rule out bf16."
        )

    @property
    def modules(self) -> nn.ModuleDict:
        """Everything with weights or running statistics, by name."""
        parts = {
            "world_model": self.world_model,
            "actor": self.actor,
            "critic": self.critic,
            "slow_critic": self.slow_critic,
        }
        if self.returns.norm is not None:
            parts["return_norm"] = self.returns.norm
        if self.average is not None:
            parts["average"] = self.average
        return nn.ModuleDict(parts)

    def state_dict(self) -> dict[str, Any]:
        """Everything that learning goes on from."""
        return {
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        load_modules(self.modules, state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = state["updates"]


def load_modules(modules: nn.ModuleDict, state: dict[str, torch.Tensor]) -> None:
    """Load saved weights, with or without an average on either side.

    Args:
        modules: `Learner.modules`.
        state: their saved `state_dict`. Without an average in it, the average begins at the
            weights; an average that nobody keeps here is passed over.
    """
    state = dict(state)
    average = {name for name in state if name.startswith("average.")}
    if "average" not in modules:
        state = {name: value for name, value in state.items() if name not in average}
    elif not average:
        now = ("world_model.", "actor.")
        state |= {f"average.{k}": v for k, v in state.items() if k.startswith(now)}
    modules.load_state_dict(state)
