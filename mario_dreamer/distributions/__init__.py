"""Distributions over tensors: what a head says about the world, and how wrong it was."""

from mario_dreamer.distributions.onehot import OneHotCategorical, balanced_kl
from mario_dreamer.distributions.simple import MSE, Bernoulli, SymlogMSE
from mario_dreamer.distributions.twohot import TwoHot, symexp, symexp_bins, symlog, symlog_bins

__all__ = [
    "MSE",
    "Bernoulli",
    "OneHotCategorical",
    "SymlogMSE",
    "TwoHot",
    "balanced_kl",
    "symexp",
    "symexp_bins",
    "symlog",
    "symlog_bins",
]
