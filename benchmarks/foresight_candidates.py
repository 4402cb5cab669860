"""What benchmarks/foresight.py tries: changes to the world model's loss, options, sampling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from mario_dreamer import keys
from mario_dreamer.losses import WorldModelLoss
from mario_dreamer.networks.model_input import to_model_input


class Harmony(WorldModelLoss):
    """Weigh reconstruction, reward and KL by learned scalars (HarmonyDream, arXiv:2310.00344).

    L_i / s_i + log(1 + s_i), s_i = exp(w_i).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scales = nn.ParameterDict(
            {n: nn.Parameter(torch.zeros(())) for n in ("recon", "reward", "kl")}
        )

    def forward(self, tensordict: TensorDict) -> tuple[TensorDict, TensorDict]:
        """As the parent's, each term divided by its scale."""
        losses, posterior = super().forward(tensordict)
        groups = {
            "recon": ["loss_recon"],
            "reward": ["loss_reward"],
            "kl": ["loss_dyn", "loss_rep"],
        }
        for name, terms in groups.items():
            scale = self.scales[name].exp()
            for term in terms:
                losses[term] = losses[term] / scale
            losses[f"loss_scale_{name}"] = torch.log1p(scale)
        return losses, posterior


class ChangedPixels(WorldModelLoss):
    """Weigh the reconstruction of what changes beyond scrolling `weight` times as much."""

    weight = 8.0

    def forward(self, tensordict: TensorDict) -> tuple[TensorDict, TensorDict]:
        """As the parent's, with the error of changed pixels added `weight` - 1 more times."""
        losses, posterior = super().forward(tensordict)
        frame = to_model_input(tensordict[keys.PIXELS]).float()
        mean = self.decoders[0].get_dist(posterior).mean
        extra = changed(frame) * (self.weight - 1)
        extra = (extra * (mean - frame).square()).sum((-3, -2, -1)).mean()
        losses["loss_changed"] = self.beta_pred * extra
        return losses, posterior


class HalfOfFrames(WorldModelLoss):
    """Decode a random half of the frames, at double weight (arXiv:2210.02396)."""

    def forward(self, tensordict: TensorDict) -> tuple[TensorDict, TensorDict]:
        """As the parent's, on half of the batch's times for the reconstruction."""
        length = tensordict.shape[1]
        chosen = torch.randperm(length)[: length // 2].sort().values
        decoder = self.decoders[0]
        get_dist = decoder.get_dist
        frame = to_model_input(tensordict[keys.PIXELS])[:, chosen]

        class Half:
            def __init__(self, posterior: TensorDict) -> None:
                self.dist = get_dist(posterior[:, chosen].select(keys.DETER, keys.STOCH))

            def log_prob(self, _: Tensor) -> Tensor:
                return self.dist.log_prob(frame)

        decoder.get_dist = Half
        try:
            return super().forward(tensordict)
        finally:
            decoder.get_dist = get_dist


class NextFrame(WorldModelLoss):
    """Reconstruct each frame from one step of the prior, too: what changes must be foreseen."""

    def forward(self, tensordict: TensorDict) -> tuple[TensorDict, TensorDict]:
        """As the parent's, with -log p(x_t | h_t, z_t ~ p(z_t | h_t))."""
        losses, posterior = super().forward(tensordict)
        states = TensorDict(
            deter=posterior[keys.DETER],
            stoch=self.world_model.rssm.stoch_dist(posterior[keys.PRIOR_LOGITS]).rsample(),
            batch_size=posterior.batch_size,
        )
        frame = to_model_input(tensordict[keys.PIXELS])
        losses["loss_next"] = -self.decoders[0].get_dist(states).log_prob(frame).mean()
        return losses, posterior


class ManyDraws(WorldModelLoss):
    """Teach the reward and continue heads on `draws` draws of the prior instead of one."""

    draws = 4

    def forward(self, tensordict: TensorDict) -> tuple[TensorDict, TensorDict]:
        """As the parent's, with the mean of L_prior over the draws."""
        losses, posterior = super().forward(tensordict)
        reward = tensordict[keys.REWARD]
        cont = self.discount.cont_target(tensordict[keys.IS_TERMINAL])
        terms = []
        for _ in range(self.draws):
            terms += self._head_nats(self.world_model.predict(posterior), reward, cont)
        losses["loss_prior"] = sum(terms).mean() / self.draws
        return losses, posterior


class WeighedContinue(WorldModelLoss):
    """The continue head's loss of each window, divided by how often too often it was drawn."""

    def forward(self, tensordict: TensorDict) -> tuple[TensorDict, TensorDict]:
        """As the parent's; `weight` of a record is uniform probability over drawn probability."""
        losses, posterior = super().forward(tensordict)
        cont = self.discount.cont_target(tensordict[keys.IS_TERMINAL])
        nats = -self.cont.get_dist(posterior).log_prob(cont)
        losses["loss_cont"] = self.beta_pred * (tensordict["weight"] * nats).mean()
        return losses, posterior


def changed(frame: Tensor, threshold: float = 0.1) -> Tensor:
    """Where frame t differs from frame t - 1 moved by 0 to 6 columns: 1 or 0, [B, T, 1, H, W]."""
    now, before = frame[:, 1:], frame[:, :-1]
    best, error = None, None
    for shift in range(7):
        gap = (now[..., : now.shape[-1] - shift] - before[..., shift:]).abs().amax(2, keepdim=True)
        mean = gap.mean((2, 3, 4), keepdim=True)
        gap = nn.functional.pad(gap, (0, shift))
        best = gap if best is None else torch.where(mean < error, gap, best)
        error = mean if error is None else torch.minimum(mean, error)
    return nn.functional.pad((best > threshold).float(), (0, 0, 0, 0, 0, 0, 1, 0))


@dataclass(frozen=True)
class Candidate:
    """One change: options of the configuration, a loss class, a way to draw windows."""

    options: list[str] = field(default_factory=list)
    loss: type[WorldModelLoss] = WorldModelLoss
    sampling: str = "uniform"  # uniform | error (Curious Replay, arXiv:2306.15934) | deaths: a
    # quarter of the windows end at a death


CANDIDATES = {
    "recipe": Candidate(),
    "harmony": Candidate(loss=Harmony),
    "prior_heads": Candidate(["loss.world_model.beta_prior=1.0"]),
    "changed_pixels": Candidate(loss=ChangedPixels),
    "half_of_frames": Candidate(loss=HalfOfFrames),
    "error_sampling": Candidate(sampling="error"),
    "free_nats_0": Candidate(["loss.world_model.free_nats=0.0"]),
    "rep_half": Candidate(["loss.world_model.beta_rep=0.5"]),
    "dyn_half": Candidate(["loss.world_model.beta_dyn=0.5"]),
    "classes_32": Candidate(["rssm.stoch_shape=[32,32]"]),
    "prior_3_layers": Candidate(["rssm.prior_layers=3"]),
    "lr_2e-3": Candidate(["optimizer.lr.world_model=2.0e-3"]),
    "next_frame": Candidate(loss=NextFrame),
    "prior_heads_4_draws": Candidate(loss=ManyDraws),
    "deaths_weighted": Candidate(loss=WeighedContinue, sampling="deaths"),
    "batch_32": Candidate(["batch_size=32"]),
    "length_32": Candidate(["batch_length=32"]),
}
