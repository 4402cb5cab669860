"""The world model: encoder, RSSM, decoder, reward and continue heads, wired on TensorDicts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn

from mario_dreamer import keys
from mario_dreamer.agent.distribution_module import DistributionModule
from mario_dreamer.checks import check, require_keys
from mario_dreamer.networks.model_input import to_model_input
from mario_dreamer.precision import wide_dtype


class WorldModel(TensorDictModuleBase):
    """Predict observations, rewards and the end of episodes from a recurrent latent state.

    Paper: arXiv:2301.04104, "World model learning".

        h_t = f(h_{t-1}, z_{t-1}, a_{t-1})     sequence model
        z_t ~ q(z_t | h_t, x_t)                encoder and posterior
        z_t ~ p(z_t | h_t)                     dynamics (prior)
        x_t, r_t, c_t ~ p(. | h_t, z_t)        decoder, reward head, continue head

    `forward` reads a batch of records and writes the posterior states; the heads are modules of
    their own with `get_dist(tensordict)`, called by the losses and by `Returns`.

    Args:
        encoder: `encoder({key: [..., *]}) -> embed [..., E]`, with `embed_dim`.
        rssm: see `networks.rssm.RSSM`.
        decoders: observation key -> `decoder(deter, stoch) -> mean`, with `dist(mean)`.
        reward: head on feat, a distribution over r_t.
        cont: head on feat, the probability that the episode goes on.
    """

    def __init__(
        self,
        encoder: nn.Module,
        rssm: nn.Module,
        decoders: Mapping[str, nn.Module],
        reward: nn.Module,
        cont: nn.Module,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.rssm = rssm
        self.decoders = nn.ModuleDict(
            {
                key: DistributionModule(decoder, [keys.DETER, keys.STOCH], (keys.RECON, key))
                for key, decoder in decoders.items()
            }
        )
        self.reward = DistributionModule(reward, [keys.FEAT], keys.REWARD)
        self.cont = DistributionModule(cont, [keys.FEAT], keys.CONT)
        known = getattr(encoder, "shapes", {})
        self.shapes = {key: " ".join(map(str, known.get(key, "*"))) for key in self.decoders}
        self.in_keys = [*self.decoders, keys.PREV_ACTION, keys.IS_FIRST]
        self.out_keys = [keys.DETER, keys.STOCH, keys.FEAT, keys.POST_LOGITS, keys.PRIOR_LOGITS]

    @property
    def observation_keys(self) -> list[str]:
        """The keys of x_t that are encoded and decoded."""
        return list(self.decoders)

    def encode(self, observations: TensorDictBase | Mapping[str, Tensor]) -> Tensor:
        """Return embed e_t [..., E] of the observations by key, bytes or floats."""
        dtype = wide_dtype(self)
        return self.encoder({key: to_model_input(observations[key], dtype) for key in self.decoders})

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Read records [B, T]; write deter, stoch, feat and both logits, graph attached.

        Reads prev_deter [B, T, D] and prev_stoch [B, T, S, K] too where replay stores them
        (only t = 0 is used): the sequence then starts from that state. Without them it starts
        from the initial state, as if an episode began at t = 0.
        """
        self._check(tensordict)
        is_first = tensordict[keys.IS_FIRST]
        deter = stoch = None
        if keys.PREV_DETER in tensordict.keys():
            deter = tensordict[keys.PREV_DETER][:, 0]  # [B, T, D] -> [B, D]
            stoch = tensordict[keys.PREV_STOCH][:, 0]
        else:
            is_first = torch.cat([torch.ones_like(is_first[:, :1]), is_first[:, 1:]], dim=1)
        deter, stoch, post_logits, prior_logits = self.rssm(
            self.encode(tensordict), tensordict[keys.PREV_ACTION], is_first, deter, stoch
        )
        return tensordict.update(
            {
                keys.DETER: deter,
                keys.STOCH: stoch,
                keys.FEAT: self.rssm.feat(deter, stoch),
                keys.POST_LOGITS: post_logits,
                keys.PRIOR_LOGITS: prior_logits,
            }
        )

    def predict(self, posterior: TensorDictBase) -> TensorDict:
        """Return the states that imagination would have had: feat of (h_t, z_t ~ p(z_t | h_t)).

        Args:
            posterior: what `forward` wrote, [B, T]; the graph goes on through h and the prior.

        Returns:
            TensorDict [B, T] with feat [B, T, F].
        """
        stoch = self.rssm.stoch_dist(posterior[keys.PRIOR_LOGITS]).rsample()
        feat = self.rssm.feat(posterior[keys.DETER], stoch)
        return TensorDict({keys.FEAT: feat}, posterior.batch_size)

    def _check(self, records: TensorDictBase) -> None:
        """Raise KeyError or ValueError unless these are records [B, T] as this model reads them."""
        latents = [keys.PREV_DETER, keys.PREV_STOCH] if keys.PREV_DETER in records else []
        require_keys("WorldModel", records, [*self.in_keys, *latents])
        wanted = {key: f"B T {self.shapes[key]}: frame" for key in self.decoders}
        wanted |= {keys.PREV_ACTION: "B T A: one-hot", keys.IS_FIRST: "B T 1: flag"}
        if latents:
            wanted |= {keys.PREV_DETER: "B T D: number", keys.PREV_STOCH: "B T S K: one-hot"}
        sizes = getattr(self.rssm, "sizes", {})
        fields = {key: (records.get(key), shape) for key, shape in wanted.items()}
        check("WorldModel", self, sizes, fields)

    @torch.no_grad()
    def open_loop(self, records: TensorDictBase, context: int) -> TensorDict:
        """Take the posterior for `context` frames, then predict the rest along the real actions.

        Paper: arXiv:2301.04104, "World model learning", the figure of long-term predictions.

        Args:
            records: real records [B, T].
            context: number of frames seen, in [1, T - 1].

        Returns:
            TensorDict [B, T] with ("recon", key) for each observation key, reward and cont
            [B, T, 1]: posterior for t < context, prior after.

        Raises:
            ValueError: when `context` leaves no frame to read or none to predict.
        """
        self._check(records)
        length = records[keys.IS_FIRST].shape[1]
        if not 1 <= context < length:
            raise ValueError(
                f"open_loop: context must be at least 1 and less than the {length} records given, "
                f"got {context}. Ask for fewer context frames or give longer sequences."
            )
        seen = self(records[:, :context].copy())
        deter, stoch, _ = self.rssm.imagine_with_action(
            seen[keys.DETER][:, -1],
            seen[keys.STOCH][:, -1],
            records[keys.PREV_ACTION][:, context:],
        )
        deter = torch.cat([seen[keys.DETER], deter], dim=1)  # [B, T, D]
        stoch = torch.cat([seen[keys.STOCH], stoch], dim=1)
        states = TensorDict(
            {keys.DETER: deter, keys.STOCH: stoch, keys.FEAT: self.rssm.feat(deter, stoch)},
            batch_size=records.batch_size,
        )
        for head in (*self.decoders.values(), self.reward, self.cont):
            head(states)
        return states
