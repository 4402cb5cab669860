"""Distributions that the heads return: samples, means, log-probabilities, divergences."""

from mario_dreamer.distributions.continuous import TanhNormal, TruncatedNormal
from mario_dreamer.distributions.divergence import balanced_kl
from mario_dreamer.distributions.onehot import MultiOneHotCategorical, OneHotCategorical
from mario_dreamer.distributions.simple import MSE, Bernoulli, SymlogMSE
from mario_dreamer.distributions.twohot import TwoHot, make_bins, symexp, symlog

__all__ = [
    "MSE", "Bernoulli", "MultiOneHotCategorical", "OneHotCategorical", "SymlogMSE", "TanhNormal",
    "TruncatedNormal", "TwoHot", "balanced_kl", "make_bins", "symexp", "symlog",
]  # fmt: skip
