"""RSSM: the recurrent state-space model, with its posterior and its prior."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mario_dreamer.distributions.divergence import balanced_kl
from mario_dreamer.distributions.onehot import OneHotCategorical
from mario_dreamer.networks.layers import MLP, SplitMLP
from mario_dreamer.networks.regions import are_compiled, region
from mario_dreamer.networks.weight_gradients import joined, weight_gradients_at_once
from mario_dreamer.precision import active_dtype, wide_dtype, widened

STEPS = 4  # compiled as one region, so that what one hands to the next is fused


class RSSM(nn.Module):
    """Step the latent state (h_t, z_t), with an observation (posterior) or without (prior).

    Paper: arXiv:2301.04104, "World model learning".

        h_t = f(h_{t-1}, z_{t-1}, a_{t-1})     sequence_model
        z_t ~ q(z_t | h_t, e_t)                posterior: given the observation
        z_t ~ p(z_t | h_t)                     prior: without it

    Args:
        sequence_model: builds f; called with deter_dim, stoch_shape, action_dim, hidden_dim.
        embed_dim: E.
        action_dim: A.
        deter_dim: D.
        stoch_shape: (S, K), S categoricals of K classes.
        hidden_dim: width of the layers in between.
        prior_layers, posterior_layers: how many before the logits, at least 1 for the posterior.
        unimix: share of uniform probability mixed into q and p, also in their KL and entropy.
        initial: "zeros" (Nature), or "learned" (v1): h = tanh(w), z = mode of p(z | h).
        norm, init: see `MLP`.

    Attributes:
        feat_dim: D + S * K.

    Raises:
        ValueError: unknown `initial`, stoch_shape is no pair, or posterior_layers below 1.
    """

    def __init__(
        self,
        sequence_model: Callable[..., nn.Module],
        embed_dim: int,
        action_dim: int,
        deter_dim: int,
        stoch_shape: Sequence[int],
        hidden_dim: int,
        prior_layers: int = 2,
        posterior_layers: int = 1,
        unimix: float = 0.01,
        norm: str = "rms",
        initial: str = "zeros",
        init: str = "fan_in",
    ) -> None:
        super().__init__()
        if initial not in ("zeros", "learned"):
            raise ValueError(f"rssm.initial must be 'zeros' or 'learned'; got {initial!r}.")
        if len(stoch_shape) != 2:
            raise ValueError(f"rssm.stoch_shape must be (S, K); got {tuple(stoch_shape)}.")
        if posterior_layers < 1:
            raise ValueError(f"rssm.posterior_layers must be 1 or more; got {posterior_layers}.")
        self.embed_dim, self.action_dim, self.deter_dim = embed_dim, action_dim, deter_dim
        self.stoch_shape, self.unimix = tuple(stoch_shape), unimix
        logits_dim = math.prod(self.stoch_shape)
        self.feat_dim = deter_dim + logits_dim
        self.sizes = {"E": embed_dim, "A": action_dim, "D": deter_dim}
        self.sizes |= dict(zip("SK", self.stoch_shape, strict=True))
        self.sequence_model = sequence_model(
            deter_dim=deter_dim,
            stoch_shape=self.stoch_shape,
            action_dim=action_dim,
            hidden_dim=hidden_dim,
        )
        self.prior = MLP(deter_dim, hidden_dim, prior_layers, norm, logits_dim, init=init)
        self.posterior = SplitMLP(
            deter_dim, embed_dim, hidden_dim, posterior_layers,
            norm=norm, out_dim=logits_dim, init=init,
        )  # fmt: skip
        self.initial_deter = nn.Parameter(torch.zeros(deter_dim)) if initial == "learned" else None

    def initial(self, batch_size: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """The state before the first frame: h [batch_size, D] and z [batch_size, S, K].

        Zeros, or learned (then z is one-hot, and the gradient goes to h).
        """
        shape = (batch_size, *self.stoch_shape)
        if self.initial_deter is None:
            zeros = torch.zeros(batch_size, self.deter_dim, device=device, dtype=wide_dtype(self))
            return zeros, zeros.new_zeros(shape)
        deter = widened(self.initial_deter).tanh()  # [D]
        stoch = self.stoch_dist(self._as_logits(self.prior(deter))).mode  # [S, K]
        return deter.expand(batch_size, -1), stoch.expand(shape)

    def observe(
        self,
        embed: Tensor,
        prev_action: Tensor,
        is_first: Tensor,
        deter: Tensor | None = None,
        stoch: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the posterior states of a sequence of observations.

        Args:
            embed: e_t for t in [1, T], [B, T, E].
            prev_action: a_{t-1}, [B, T, A] one-hot.
            is_first: x_t opens an episode, [B, T, 1] bool. The state is reset there.
            deter: h_0, [B, D]; None: the initial state.
            stoch: z_0, [B, S, K]; None: the initial state.
            noise: uniform numbers that z_t is drawn with, [B, T, S, 1]; None makes them.

        Returns:
            h_t [B, T, D], z_t [B, T, S, K], then the logits of q and of p, [B, T, S, K] each.
        """
        fresh = self.initial(embed.shape[0], embed.device)
        deter = fresh[0] if deter is None else deter.to(fresh[0].dtype)
        stoch = fresh[1] if stoch is None else stoch.to(fresh[1].dtype)
        shape = *embed.shape[:2], *self.stoch_shape
        if noise is None:
            noise = torch.rand(shape[1], shape[0], shape[2], 1, device=embed.device).transpose(0, 1)
        # What does not depend on the state before is computed for all t at once: the embedding's
        # share of the posterior before the loop, the prior and the gradients of weights after it.
        seen = self.posterior.share_of_y(embed)
        first = is_first.bool()
        action = _bounded(prev_action, stoch.dtype) * ~first
        start, steps = (deter.detach(), stoch.detach()), []

        def again() -> tuple[Tensor, Tensor]:
            # Every step once more, from the states that the loop went through.
            pairs = zip(start, after, strict=True)
            before = (torch.cat([x.unsqueeze(1), y[:, :-1]], 1) for x, y in pairs)
            inputs = (*before, action, first, seen, after[0])
            rows = (x.detach().flatten(0, 1) for x in inputs)
            return self._all_steps([x.detach().repeat_interleave(shape[1], 0) for x in fresh], *rows)

        modules, shapes = (self.sequence_model, self.posterior), (shape[:2] + deter.shape[1:], shape)
        with weight_gradients_at_once(modules, again, shapes, deter) as zeros:
            weight = self.posterior.weight_of_x(seen.dtype)
            inputs = (self.read_action(action), first, seen, noise, *zeros)
            length = STEPS if are_compiled() else shape[1]
            for part in zip(*(x.split(length, 1) for x in inputs), strict=True):
                *states, deter, stoch = self._steps(fresh, weight, deter, stoch, *part)
                steps.append(states)
        deter, stoch, post = (joined(column) for column in zip(*steps, strict=True))
        after = (deter.detach(), stoch.detach())  # no graph: `again` would keep it alive
        return deter, stoch, post, self._as_logits(self.prior(deter))

    # The world model calls the RSSM as a module.
    forward = observe

    def obs_step(
        self,
        deter: Tensor,
        stoch: Tensor,
        prev_action: Tensor,
        embed: Tensor,
        is_first: Tensor,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the posterior state of one observation: `observe` of T = 1, all without T.

        Args:
            deter, stoch: h_{t-1}, [B, D], and z_{t-1}, [B, S, K] one-hot.
            prev_action, embed, is_first, noise: see `observe`, [B, ...] each.

        Returns:
            h_t [B, D], z_t [B, S, K], then the logits of q and of p, [B, S, K] each.
        """
        step = (x.unsqueeze(1) for x in (embed, prev_action, is_first))
        noise = None if noise is None else noise.unsqueeze(1)
        deter, stoch, post, prior = self.observe(*step, deter, stoch, noise)
        return deter[:, 0], stoch[:, 0], post[:, 0], prior[:, 0]

    @region
    def img_step(self, deter: Tensor, stoch: Tensor, action: Tensor) -> tuple[Tensor, ...]:
        """Imagine one step.

        Args:
            deter: h_t, [B, D].
            stoch: z_t, [B, S, K] one-hot.
            action: a_t, [B, A] one-hot.

        Returns:
            h_{t+1} [B, D], z_{t+1} [B, S, K] drawn from p, and the logits of p, [B, S, K].
        """
        action = self.read_action(_bounded(action, stoch.dtype))
        deter = self.sequence_model(deter, stoch, action)
        prior_logits = self._as_logits(self.prior(deter))
        return deter, self.stoch_dist(prior_logits).rsample(), prior_logits

    def imagine_with_action(
        self, deter: Tensor, stoch: Tensor, action: Tensor
    ) -> tuple[Tensor, ...]:
        """Imagine along given actions.

        Args:
            deter: h_t, [B, D].
            stoch: z_t, [B, S, K] one-hot.
            action: a_t .. a_{t+H-1}, [B, H, A] one-hot.

        Returns:
            h, z and the logits of p for t+1 .. t+H: [B, H, D], [B, H, S, K], [B, H, S, K].
        """
        steps = []
        for step_action in action.unbind(1):
            steps.append(self.img_step(deter, stoch, step_action))
            deter, stoch, _ = steps[-1]
        return tuple(torch.stack(column, 1) for column in zip(*steps, strict=True))

    def kl_loss(
        self, post_logits: Tensor, prior_logits: Tensor, free_nats: float = 1.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return `balanced_kl` of the logits of q and p, [..., S, K]: dyn, rep and kl, [...]."""
        post, prior = self.stoch_dist(post_logits), self.stoch_dist(prior_logits)
        return balanced_kl(post, prior, free_nats, dims=post_logits.ndim - 2)

    def feat(self, deter: Tensor, stoch: Tensor) -> Tensor:
        """What every head reads: h_t [..., D] and z_t [..., S, K] to [..., D + S * K].

        Under autocast it is rounded here, once, and not by every head that reads it.
        """
        dtype = active_dtype(deter.device) or deter.dtype
        return torch.cat([deter.to(dtype), stoch.flatten(-2).to(dtype)], -1)

    @region
    def _steps(
        self, fresh: Sequence[Tensor], weight: Tensor, deter: Tensor, stoch: Tensor, *parts: Tensor
    ) -> tuple[Tensor, ...]:
        """Some steps of `observe`: h_t, z_t and the logits of q, [t, B, ...]; the last h and z."""
        steps = []
        for action, first, seen, noise, *zeros in zip(*(x.unbind(1) for x in parts), strict=True):
            deter = self._recur(fresh, deter, stoch, action, first)
            deter = deter + zeros[0] if zeros else deter
            post_logits = self._as_logits(self.posterior.add_x(deter, weight, seen))
            post_logits = post_logits + zeros[1] if zeros else post_logits
            stoch = self.stoch_dist(post_logits).rsample(noise=noise)
            steps.append((deter, stoch, post_logits))
        return *(torch.stack(column) for column in zip(*steps, strict=True)), deter, stoch

    @region
    def _all_steps(
        self,
        fresh: Sequence[Tensor],
        deter: Tensor,
        stoch: Tensor,
        action: Tensor,
        first: Tensor,
        seen: Tensor,
        after: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """h_t and the logits of q of B * T steps, apart from each other; `after` is h_t."""
        weight = self.posterior.weight_of_x(seen.dtype)
        logits = self._as_logits(self.posterior.add_x(after, weight, seen))
        return self._recur(fresh, deter, stoch, self.read_action(action), first), logits

    def _recur(
        self, fresh: Sequence[Tensor], deter: Tensor, stoch: Tensor, action: Tensor, first: Tensor
    ) -> Tensor:
        """h_t of h, z and a at t - 1, reset to `fresh` where t opens an episode."""
        deter = torch.where(first, fresh[0], deter)  # first: [N, 1]
        stoch = torch.where(first[..., None], fresh[1], stoch)
        return self.sequence_model(deter, stoch, action)

    def read_action(self, action: Tensor) -> Tensor:
        """What the sequence model takes for a_{t-1}, [..., A] in [-1, 1]."""
        read = getattr(self.sequence_model, "read_action", None)
        return action if read is None else read(action)

    def stoch_dist(self, logits: Tensor) -> OneHotCategorical:
        """The distribution q or p of z_t, from its logits [..., S, K], `unimix` mixed in."""
        return OneHotCategorical(logits, self.unimix)

    def _as_logits(self, flat: Tensor) -> Tensor:
        return widened(flat).unflatten(-1, self.stoch_shape)  # [..., S * K] -> [..., S, K]


def _bounded(action: Tensor, dtype: torch.dtype) -> Tensor:
    """Scale an action into [-1, 1]: a / max(1, |a|); a one-hot stays as it is."""
    action = action.to(dtype)
    return action / action.detach().abs().clamp_min(1.0)
