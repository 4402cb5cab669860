"""World model loss: reconstruction, reward, continuation and balanced KL."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import LossModule

from mario_dreamer import keys
from mario_dreamer.checks import check, require_head, require_keys
from mario_dreamer.distributions.divergence import balanced_kl, sum_event
from mario_dreamer.distributions.onehot import OneHotCategorical
from mario_dreamer.losses.targets import Discount
from mario_dreamer.networks.branches import join, mark, side_stream
from mario_dreamer.networks.model_input import to_model_input
from mario_dreamer.precision import wide_dtype


class WorldModelLoss(LossModule):
    """Train the world model to predict what is observed, and its latents to be predictable.

    Paper: arXiv:2301.04104, "World model learning".

        L      = beta_pred * L_pred + beta_dyn * L_dyn + beta_rep * L_rep
        L_pred = -log p(x_t | h_t, z_t) - log p(r_t | h_t, z_t) - log p(c_t | h_t, z_t)
        L_dyn  = max(free_nats, KL[ sg(q) || p ])     trains the prior
        L_rep  = max(free_nats, KL[ q || sg(p) ])     trains the posterior

    The max is taken on the KL summed over the latent, for each record, before any mean. Every
    term is summed over the numbers of a record and averaged over the B * T records, without those
    that TorchRL's `loss_mask_key` masks.

    Args:
        world_model: reads `in_keys` of records [B, T]; writes what the heads read, and the
            parameters of q and p.
        decoders: observation key -> module with `get_dist(tensordict)` over that observation;
            None takes `world_model.decoders`.
        reward: module with `get_dist(tensordict)` over r_t; None takes `world_model.reward`.
        cont: the same over c_t in [0, 1]; None takes `world_model.cont`.
        beta_pred, beta_dyn, beta_rep: weights of the terms, at least 0.
        beta_prior: weight of a term that the paper does not have: the reward and continue heads
            predict from (h_t, z_t ~ p), which is what imagination reads, too.

                L_prior = -log p(r_t | h_t, z_t) - log p(c_t | h_t, z_t),   z_t ~ p(z_t | h_t)

            Above 0, `world_model.predict(posterior)` has to give what the heads read, of z_t ~ p.
        free_nats: a KL below this many nats has no gradient.
        unimix: share of uniform probability in q and p; None: `world_model.rssm.unimix`, or 0.01
            where it has none.
        discount: the agent's discount; says what the continue head is to predict.
        latent: parameters [B, T, ...] -> distribution, for q and p; any kind with a KL. None:
            one-hot categoricals with `unimix` of logits [B, T, S, K].
        reduction: of every term: "mean", "sum" or "none".

    Raises:
        TypeError: a decoder or head has no `get_dist`, the world model lacks a part, or there
            is no decoder.
    """

    @dataclass
    class _AcceptedKeys:
        """Keys that `set_keys` can rename.

        reward, is_terminal: [B, T, 1], what came with the frame.
        post_logits, prior_logits: parameters of q and p, [B, T, ...], from the world model.
        """

        reward: NestedKey = keys.REWARD
        is_terminal: NestedKey = keys.IS_TERMINAL
        post_logits: NestedKey = keys.POST_LOGITS
        prior_logits: NestedKey = keys.PRIOR_LOGITS

    default_keys = _AcceptedKeys
    tensor_keys: _AcceptedKeys
    functional = False  # modules stay as they are, their parameters in them

    def __init__(
        self,
        world_model: nn.Module,
        decoders: Mapping[str, nn.Module] | None = None,
        reward: nn.Module | None = None,
        cont: nn.Module | None = None,
        *,
        beta_pred: float = 1.0,
        beta_dyn: float = 1.0,
        beta_rep: float = 0.1,
        beta_prior: float = 0.0,
        free_nats: float = 1.0,
        unimix: float | None = None,
        discount: Discount = Discount(),
        latent: Callable[[Tensor], Any] | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        given = {"decoders": decoders, "reward": reward, "cont": cont, "in_keys": None}
        lacks = [k for k, part in given.items() if part is None and not hasattr(world_model, k)]
        if lacks:
            raise TypeError(
                f"WorldModelLoss: the {type(world_model).__name__} has no {', '.join(lacks)}. A world "
                "model says by in_keys what it reads; other parts can be given by these names."
            )
        self.world_model = world_model
        decoders = world_model.decoders if decoders is None else decoders
        if not decoders:
            raise TypeError("WorldModelLoss: decoders is empty; give one for each observation.")
        # Two lists, not a ModuleDict: a key may be nested, such as ("next", "observation").
        self.decoded_keys: list[NestedKey] = list(decoders)
        self.decoders = nn.ModuleList(decoders.values())
        self.reward = world_model.reward if reward is None else reward
        self.cont = world_model.cont if cont is None else cont
        for head in (*self.decoders, self.reward, self.cont):
            require_head("WorldModelLoss", head)
        self.beta_pred, self.beta_dyn, self.beta_rep = beta_pred, beta_dyn, beta_rep
        self.beta_prior = beta_prior
        self.free_nats = free_nats
        rssm = getattr(world_model, "rssm", None)
        unimix = getattr(rssm, "unimix", 0.01) if unimix is None else unimix
        self.has_own_latent = latent is not None
        self.latent = latent or functools.partial(OneHotCategorical, unimix=unimix)
        self.discount, self.reduction = discount, reduction
        self.out_keys = ["loss_recon", "loss_reward", "loss_cont", "loss_dyn", "loss_rep"]
        self.out_keys += ["loss_prior"] if beta_prior else []
        self.out_keys += ["kl", "post_entropy", "prior_entropy"]

    @property
    def in_keys(self) -> list[NestedKey]:
        """What a batch of records must hold."""
        read = [*self.world_model.in_keys, *self.decoded_keys]
        read += [self.tensor_keys.reward, self.tensor_keys.is_terminal]
        return list(dict.fromkeys(read))

    def forward(self, tensordict: TensorDictBase) -> tuple[TensorDict, TensorDictBase]:
        """Compute the loss of a batch of records.

        Args:
            tensordict: records [B, T]; left as it is.

        Returns:
            the weighted terms `loss_*` and the plain metrics kl, post_entropy, prior_entropy
            (nats), all 0-dim, but the terms [B, T] with reduction "none"; and the posterior
            states [B, T], graph attached.

        Raises:
            KeyError: a record lacks a key.
            ValueError: a shape, type or device does not fit.
        """
        require_keys("WorldModelLoss", tensordict, self.in_keys, "batch of records")
        names = self.tensor_keys
        reward, is_terminal = tensordict.get(names.reward), tensordict.get(names.is_terminal)
        fields = {names.reward: (reward, "B T 1: number"),
                  names.is_terminal: (is_terminal, "B T 1: flag")}  # fmt: skip
        fields |= {key: (tensordict.get(key), "B T *: frame") for key in self.decoded_keys}
        check("WorldModelLoss", self.world_model, {}, fields)
        records = tensordict.copy()
        dtype = wide_dtype(self.world_model)
        for key in self.decoded_keys:  # bytes become floats once, for encoder and loss
            records.set(key, to_model_input(records.get(key), dtype))
        posterior = self.world_model(records)
        mark("posterior")
        params = [names.post_logits, names.prior_logits]
        read = [key for head in (*self.decoders, self.reward, self.cont) for key in head.in_keys]
        require_keys("WorldModelLoss", posterior, [*params, *read], "result of the world model")
        if not self.has_own_latent:  # for another kind, give `latent`
            fields = {key: (posterior.get(key), "B T S K: float") for key in params}
            check("WorldModelLoss, one-hot latent", None, {}, fields)
        observed = [records.get(key) for key in self.decoded_keys]
        with side_stream("decoders", reads=observed):
            recon = sum(
                _nats(decoder, posterior, target)
                for target, decoder in zip(observed, self.decoders, strict=True)
            )
        targets = (reward, self.discount.cont_target(is_terminal))
        seen = self._head_nats(posterior, *targets)
        kl_terms = self._kl_terms(posterior, tensordict)  # and its gradient: while the decoders run
        join("decoders")
        terms = {"loss_recon": recon, "loss_reward": seen[0], "loss_cont": seen[1]}  # [B, T] each
        losses = TensorDict(
            {name: self.beta_pred * self._reduce_loss(x, tensordict) for name, x in terms.items()}
        )
        if self.beta_prior:
            predicted = sum(self._head_nats(self.world_model.predict(posterior), *targets))
            losses["loss_prior"] = self.beta_prior * self._reduce_loss(predicted, tensordict)
        return losses.update(kl_terms), posterior

    def _head_nats(
        self, states: TensorDictBase, reward: Tensor, cont: Tensor
    ) -> tuple[Tensor, Tensor]:
        return _nats(self.reward, states, reward), _nats(self.cont, states, cont)

    def _kl_terms(
        self, posterior: TensorDictBase, records: TensorDictBase | None = None
    ) -> dict[str, Tensor]:
        """Both KL terms, and the KL and entropies as metrics."""
        params = [posterior.get(self.tensor_keys.post_logits)]
        params += [posterior.get(self.tensor_keys.prior_logits)]
        post, prior = (self.latent(x) for x in params)
        fixed = None if hasattr(post, "detach") else tuple(self.latent(x.detach()) for x in params)
        dyn, rep, kl = balanced_kl(post, prior, self.free_nats, fixed)  # [B, T] each
        with torch.no_grad():
            post_entropy, prior_entropy = (sum_event(x.entropy(), 2) for x in (post, prior))
        metrics = {"kl": kl, "post_entropy": post_entropy, "prior_entropy": prior_entropy}
        mean = functools.partial(self._reduce_loss, tensordict=records, reduction="mean")
        return {
            "loss_dyn": self.beta_dyn * self._reduce_loss(dyn, records),
            "loss_rep": self.beta_rep * self._reduce_loss(rep, records),
            **{name: mean(value) for name, value in metrics.items()},
        }


def _nats(head: nn.Module, states: TensorDictBase, target: Tensor) -> Tensor:
    """-log p(target | states), summed over all but batch and time, [B, T]."""
    return -sum_event(head.get_dist(states).log_prob(target), 2)
