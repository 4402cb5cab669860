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
from mario_dreamer.checks import check, require_keys
from mario_dreamer.distributions.divergence import balanced_kl, sum_event
from mario_dreamer.distributions.onehot import OneHotCategorical
from mario_dreamer.losses.targets import Discount, reduce
from mario_dreamer.networks.model_input import to_model_input


class WorldModelLoss(LossModule):
    """Train the world model to predict what is observed, and its latents to be predictable.

    Paper: arXiv:2301.04104, "World model learning".

        L      = beta_pred * L_pred + beta_dyn * L_dyn + beta_rep * L_rep
        L_pred = -log p(x_t | h_t, z_t) - log p(r_t | h_t, z_t) - log p(c_t | h_t, z_t)
        L_dyn  = max(free_nats, KL[ sg(q) || p ])     trains the prior
        L_rep  = max(free_nats, KL[ q || sg(p) ])     trains the posterior

    The max is taken on the KL summed over the latent, for each record, before any mean. Every
    term is averaged over the B * T records.

    Args:
        world_model: reads records [B, T]; writes what the heads read, and the parameters of q
            and p.
        decoders: observation key -> module with `get_dist(tensordict)` over that observation;
            None takes `world_model.decoders`.
        reward: module with `get_dist(tensordict)` over r_t; None takes `world_model.reward`.
        cont: the same over c_t in [0, 1]; None takes `world_model.cont`.
        beta_pred, beta_dyn, beta_rep: weights of the terms, at least 0.
        beta_prior: weight of a term that the paper does not have: the reward and continue heads
            predict from (h_t, z_t ~ p), which is what imagination reads, too.

                L_prior = -log p(r_t | h_t, z_t) - log p(c_t | h_t, z_t),   z_t ~ p(z_t | h_t)
        free_nats: a KL below this many nats has no gradient.
        unimix: share of uniform probability in q and p; the RSSM's own when it has one.
        discount: the agent's discount; says what the continue head is to predict.
        latent: parameters [B, T, ...] -> distribution, for q and p; any kind with a KL. None:
            one-hot categoricals with `unimix` of logits [B, T, S, K].
        reduction: of every term: "mean", "sum" or "none".
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
        self.world_model = world_model
        decoders = world_model.decoders if decoders is None else decoders
        # Two lists, not a ModuleDict: a key may be nested, such as ("next", "observation").
        self.decoded_keys: list[NestedKey] = list(decoders)
        self.decoders = nn.ModuleList(decoders.values())
        self.reward = world_model.reward if reward is None else reward
        self.cont = world_model.cont if cont is None else cont
        self.beta_pred, self.beta_dyn, self.beta_rep = beta_pred, beta_dyn, beta_rep
        self.beta_prior = beta_prior
        self.free_nats = free_nats
        rssm = getattr(world_model, "rssm", None)
        unimix = getattr(rssm, "unimix", 0.01) if unimix is None else unimix
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

    def _forward_value_estimator_keys(self, **kwargs: NestedKey) -> None:
        """The world model has no value estimator."""

    def forward(self, tensordict: TensorDictBase) -> tuple[TensorDict, TensorDictBase]:
        """Compute the loss of a batch of records.

        Args:
            tensordict: records [B, T]; left as it is.

        Returns:
            the weighted terms `loss_*` and the plain metrics kl, post_entropy, prior_entropy
            (nats), all 0-dim; and the posterior states [B, T], graph attached.

        Raises:
            KeyError: a record lacks a key.
            ValueError: a shape, type or device does not fit.
        """
        require_keys("WorldModelLoss", tensordict, self.in_keys, "batch of records")
        names = self.tensor_keys
        reward, is_terminal = tensordict.get(names.reward), tensordict.get(names.is_terminal)
        fields = {key: (tensordict.get(key), "B T *: frame") for key in self.decoded_keys}
        fields |= {names.reward: (reward, "B T 1: number"),
                   names.is_terminal: (is_terminal, "B T 1: flag")}  # fmt: skip
        check("WorldModelLoss", None, {}, fields)
        records = tensordict.copy()
        for key in self.decoded_keys:  # bytes become floats once, for encoder and loss
            records.set(key, to_model_input(records.get(key)))
        posterior = self.world_model(records)
        recon = sum(
            decoder.get_dist(posterior).log_prob(records.get(key))
            for key, decoder in zip(self.decoded_keys, self.decoders, strict=True)
        )  # [B, T]
        cont = self.discount.cont_target(is_terminal)
        losses = TensorDict(
            loss_recon=-self.beta_pred * reduce(recon, self.reduction),
            loss_reward=self._head_loss(self.reward, posterior, reward, self.beta_pred),
            loss_cont=self._head_loss(self.cont, posterior, cont, self.beta_pred),
        )
        if self.beta_prior:
            predicted = self.world_model.predict(posterior)
            losses["loss_prior"] = self._head_loss(
                self.reward, predicted, reward, self.beta_prior
            ) + self._head_loss(self.cont, predicted, cont, self.beta_prior)
        return losses.update(self._kl_terms(posterior)), posterior

    def _head_loss(
        self, head: nn.Module, states: TensorDictBase, target: Tensor, weight: float
    ) -> Tensor:
        """-weight * log p(target | states), reduced."""
        return -weight * reduce(head.get_dist(states).log_prob(target), self.reduction)

    def _kl_terms(self, posterior: TensorDictBase) -> dict[str, Tensor]:
        """Both KL terms, and the KL and entropies as metrics."""
        params = [posterior.get(self.tensor_keys.post_logits)]
        params += [posterior.get(self.tensor_keys.prior_logits)]
        post, prior = (self.latent(x) for x in params)
        fixed = None if hasattr(post, "detach") else tuple(self.latent(x.detach()) for x in params)
        dyn, rep, kl = balanced_kl(post, prior, self.free_nats, fixed)  # [B, T] each
        with torch.no_grad():
            metrics = {
                "kl": kl.mean(),
                "post_entropy": sum_event(post.entropy(), 2).mean(),
                "prior_entropy": sum_event(prior.entropy(), 2).mean(),
            }
        return {
            "loss_dyn": self.beta_dyn * reduce(dyn, self.reduction),
            "loss_rep": self.beta_rep * reduce(rep, self.reduction),
            **metrics,
        }
