"""Our formulas against TorchRL's public functions: written apart, they have to agree."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import kl_divergence

from mario_dreamer.distributions import OneHotCategorical, TwoHot, make_bins, symexp, symlog

objectives = pytest.importorskip("torchrl.objectives")


def torchrl(name: str) -> object:
    if not hasattr(objectives, name):
        pytest.skip(f"this torchrl has no {name}")
    return getattr(objectives, name)


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_kl_terms_and_their_gradients_agree(scale: float) -> None:
    logits = (scale * torch.randn(2, 3, 4, 8, 6)).requires_grad_()  # q and p, [B, T, S, K]
    post, prior = (OneHotCategorical(each, unimix=0.01) for each in logits)
    ours = (
        kl_divergence(post.detach(), prior).sum(-1).clamp_min(1.0).mean(),
        kl_divergence(post, prior.detach()).sum(-1).clamp_min(1.0).mean(),
    )
    theirs = torchrl("categorical_kl_terms")(*logits, free_nats=1.0, unimix=0.01)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)
        gradients = [
            torch.autograd.grad(term, logits, retain_graph=True)[0] for term in (mine, other)
        ]
        torch.testing.assert_close(*gradients)


def test_two_hot_cross_entropy_agrees() -> None:
    logits, x = torch.randn(64, 255), torch.randn(64, 1).exp() * 50 - 60
    theirs = torchrl("two_hot_cross_entropy")(logits, x, make_bins("symexp"))
    torch.testing.assert_close(-TwoHot(logits).log_prob(x), theirs)


def test_two_hot_decoding_agrees() -> None:
    logits = torch.randn(64, 255)
    theirs = torchrl("two_hot_decode")(logits, make_bins("symexp"))
    torch.testing.assert_close(TwoHot(logits).mean.squeeze(-1), theirs)


def test_symlog_and_symexp_agree() -> None:
    x = torch.linspace(-15, 15, 101)
    torch.testing.assert_close(symlog(x), torchrl("symlog")(x))
    torch.testing.assert_close(symexp(x), torchrl("symexp")(x))
