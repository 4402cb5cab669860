"""The learner: one update, from a batch of records to new weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import nn

from mario_dreamer import keys
from mario_dreamer.agent.agent import Agent
from mario_dreamer.agent.critic import SlowCritic
from mario_dreamer.agent.imagination import Imagination
from mario_dreamer.agent.returns import Returns
from mario_dreamer.losses import ActorLoss, CriticLoss, WorldModelLoss
from mario_dreamer.networks.branches import join, side_stream
from mario_dreamer.precision import autocast
from mario_dreamer.training.acceleration import accelerate, capture
from mario_dreamer.training.distributed import Processes, ProcessLost
from mario_dreamer.training.finite import FiniteLoss, NonFiniteLoss
from mario_dreamer.training.optim import ClippedOptimizer
from mario_dreamer.training.weight_average import WeightAverage


@dataclass(frozen=True)
class Losses:
    """What the losses of an update are computed with.

    Args:
        world_model: loss of a batch of records.
        imagination, returns: rollouts from the posterior states, and their returns.
        actor, critic: losses of the rollouts.
        slow_critic: follows the critic after each update.
    """

    world_model: WorldModelLoss
    imagination: Imagination
    returns: Returns
    actor: ActorLoss
    critic: CriticLoss
    slow_critic: SlowCritic


def _total(losses: TensorDictBase) -> torch.Tensor:
    """The sum of all terms."""
    return sum(value for name, value in losses.items() if name.startswith("loss_"))


class Learner:
    """Update world model, critic and actor together from one batch of records.

    Paper: arXiv:2301.04104, Algorithm "DreamerV3".

    Args:
        losses: what is minimised.
        optimizer: steps all parameters.
        device: where the networks are.
        dtype: autocast type; None for float32.
        compile: one of `acceleration.MODES`.
        imagination_starts: imagine from the last so many records of each sequence; None: all.
        average_rate: of the average of world model and actor, see `WeightAverage`; None: none.
        processes: gradients and metrics are averaged over them; None: this one alone.
    """

    def __init__(
        self,
        agent: Agent,
        losses: Losses,
        optimizer: ClippedOptimizer,
        device: torch.device,
        dtype: torch.dtype | None = None,
        compile: str = "off",
        imagination_starts: int | None = None,
        average_rate: float | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.world_model, self.actor, self.critic = agent.world_model, agent.actor, agent.critic
        self.slow_critic = losses.slow_critic
        self.imagination, self.returns = losses.imagination, losses.returns
        self.world_model_loss = losses.world_model
        self.actor_loss, self.critic_loss = losses.actor, losses.critic
        self.optimizer = optimizer
        self.device, self.dtype = device, dtype
        self.imagination_starts = imagination_starts
        self.processes = processes or Processes()
        self.average: WeightAverage | None = None
        if average_rate is not None:
            averaged = {"world_model": self.world_model, "actor": self.actor}
            self.average = WeightAverage(averaged, average_rate)
        self.updates = 0
        self.finite = FiniteLoss(optimizer, device)
        self._forward_backward = accelerate(self.forward_backward, compile, self.device)
        self._step = capture(self.step, compile, self.device)

    def forward_backward(self, records: TensorDictBase) -> TensorDict:
        """Compute all losses of one batch, and their gradients.

        Args:
            records: [B, T], on the learner's device.

        Returns:
            every loss term and metric, 0-dim, no graph; and deter, stoch of the posterior.
        """
        # The world model, on what was recorded.
        with autocast(self.device, self.dtype):
            losses, posterior = self.world_model_loss(records)
            roots = [_total(losses)]

        # Imagination from the posterior states; a GPU does not wait for the decoders first.
        last = self.imagination_starts
        starts = posterior if last is None else posterior[:, -last:]
        with side_stream("imagination", after="posterior", high_priority=True):
            states = starts.select(keys.DETER, keys.STOCH).detach().reshape(-1)  # [B, T] -> [N]
            with autocast(self.device, self.dtype):
                rollouts = self.imagination(states)
                rollouts[keys.IS_TERMINAL] = starts[keys.IS_TERMINAL].reshape(-1, 1)

            # Actor and critic, on what was imagined.
            with autocast(self.device, self.dtype):
                rollouts = self.returns(rollouts, update_range=True)
                with side_stream("actor"):
                    actor_losses = self.actor_loss(rollouts)
                    roots.append(_total(actor_losses))
                critic_losses = self.critic_loss(rollouts, starts)
                roots.append(_total(critic_losses))

        # Each part goes back by itself, from a root of its own.
        torch.autograd.backward([root for root in roots if root.requires_grad])
        join("actor", "imagination")
        losses.update(actor_losses).update(critic_losses)
        total = sum(root.detach() for root in roots)
        losses.update(self._metrics(rollouts))
        losses["total"] = total
        losses = losses.detach()
        losses["posterior"] = posterior.select(keys.DETER, keys.STOCH).detach()
        return losses

    @torch.no_grad()
    def _metrics(self, rollouts: TensorDictBase) -> dict[str, torch.Tensor]:
        """Metrics of the imagined rollouts, 0-dim each."""
        returns, norm = rollouts[keys.LAMBDA_RETURN], self.returns.norm
        return {
            "return_mean": returns.mean(),
            "return_std": returns.std(correction=0),
            "return_scale": returns.new_ones(()) if norm is None else norm.scale().squeeze(),
            "value_mean": rollouts[keys.VALUE].detach().mean(),
            "reward_mean": rollouts[keys.REWARD][:, 1:].mean(),
            "cont_mean": rollouts[keys.CONT].mean(),
            "weight_mean": rollouts[keys.WEIGHT].mean(),
        }

    def step(self, records: TensorDictBase) -> TensorDict:
        """Everything an update does on the device: losses, gradients, optimiser, slow critic.

        On a GPU all of it is one CUDA graph where asked for, so nothing here waits for a number.
        It takes and returns what `forward_backward` does, and the optimiser's metrics.
        """
        norm = self.returns.norm
        state = [] if norm is None else [(now, now.clone()) for now in norm.buffers()]
        try:
            metrics = self._forward_backward(records)
            self.processes.average_(self.optimizer.row, metrics)
            self.finite(metrics, state, self.updates + 1)
            metrics.update(self.optimizer.step())
        except (NonFiniteLoss, ProcessLost):  # leave nothing of this update behind
            for now, before in state:
                now.copy_(before)
            raise
        finally:
            self.optimizer.zero_grad()  # after any error, too: the next update would add to them
        self.slow_critic.follow(self.critic)
        if self.average is not None:
            self.average.follow([self.world_model, self.actor])
        return metrics

    def update(self, records: TensorDictBase) -> TensorDict:
        """Take one step; return the metrics, still on the device, and the posterior states.

        Args:
            records: [B, T] from replay, on any device.

        Raises:
            NonFiniteLoss: on CPU, when a term is NaN or infinite, before any weight has changed.
                On a GPU its gradients become 0, and `check` raises when metrics are fetched.
            ProcessLost: another process that learns with this one ended; likewise.
        """
        for key, value in records.items():
            if not isinstance(value, torch.Tensor) or value.device.type == "meta":
                raise TypeError(f"Learner.update: {key} must be a tensor with data; got {value!r}.")
        metrics = self._step(records.to(self.device, non_blocking=True))
        self.updates += 1
        return metrics

    def check(self, metrics: TensorDictBase) -> None:
        """Raise NonFiniteLoss, naming the terms, when a loss was not a finite number."""
        self.finite.ask(metrics, self.updates)

    @property
    def modules(self) -> nn.ModuleDict:
        """Everything with weights or running statistics, by name."""
        names = ("world_model", "actor", "critic", "slow_critic")
        parts: dict[str, nn.Module] = {name: getattr(self, name) for name in names}
        if self.returns.norm is not None:
            parts["return_norm"] = self.returns.norm
        if self.average is not None:
            parts["average"] = self.average
        return nn.ModuleDict(parts)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resume needs."""
        return {
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, of a learner with or without an average.

        Without an average in it, the average begins at the weights.
        """
        saved = dict(state["modules"])
        average = {name for name in saved if name.startswith("average.")}
        if self.average is None:
            saved = {name: value for name, value in saved.items() if name not in average}
        elif not average:
            now = ("world_model.", "actor.")
            saved |= {f"average.{k}": v for k, v in saved.items() if k.startswith(now)}
        self.modules.load_state_dict(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = state["updates"]
        if self.average is not None:
            self.average.count.fill_(self.updates)
