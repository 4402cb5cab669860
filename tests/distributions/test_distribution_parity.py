"""Our formulas against TorchRL's public functions: written apart, they have to agree."""

from __future__ import annotations

import torch
from torchrl import objectives

from mario_dreamer.distributions import TwoHot, make_bins, symexp, symlog


def test_two_hot_cross_entropy_agrees() -> None:
    logits, x = torch.randn(64, 255), torch.randn(64, 1).exp() * 50 - 60
    theirs = objectives.two_hot_cross_entropy(logits, x, make_bins("symexp"))
    torch.testing.assert_close(-TwoHot(logits).log_prob(x), theirs)


def test_two_hot_decoding_agrees() -> None:
    logits = torch.randn(64, 255)
    theirs = objectives.two_hot_decode(logits, make_bins("symexp"))
    torch.testing.assert_close(TwoHot(logits).mean.squeeze(-1), theirs)


def test_symlog_and_symexp_agree() -> None:
    x = torch.linspace(-15, 15, 101)
    torch.testing.assert_close(symlog(x), objectives.symlog(x))
    torch.testing.assert_close(symexp(x), objectives.symexp(x))
