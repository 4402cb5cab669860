from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mario_dreamer.distributions import TwoHot, make_bins, symexp, symlog

UNIFORM = torch.zeros(1, 255)
KINDS = ["symexp", "symlog"]


def column(*values: float) -> Tensor:
    return torch.tensor(values).unsqueeze(-1)


def certain_of(x: Tensor, kind: str) -> TwoHot:
    """A head that has learned x perfectly."""
    lower, weight = TwoHot(UNIFORM, kind).encode(x)
    target = torch.zeros(len(x), 255)
    target.scatter_(-1, lower, 1 - weight).scatter_(-1, lower + 1, weight)
    return TwoHot(target.clamp_min(1e-30).log(), kind)


@pytest.mark.parametrize(
    ("x", "expected"),
    [(1.0, 0.6931), (0.1, 0.0953), (-15.0, -2.7726), (1000.0, 6.9088), (4000.0, 8.2943)],
)
def test_symlog_of_numbers_mario_knows(x: float, expected: float) -> None:
    assert symlog(torch.tensor(x)).item() == pytest.approx(expected, abs=1e-4)


@given(st.floats(-4e8, 4e8, width=32))
def test_symexp_undoes_symlog(x: float) -> None:
    back = symexp(symlog(torch.tensor(x, dtype=torch.float64))).item()
    assert back == pytest.approx(x, rel=1e-9, abs=1e-12)


@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32))
def test_symlog_keeps_order_and_sign(x: float, y: float) -> None:
    low, high = symlog(torch.tensor([min(x, y), max(x, y)], dtype=torch.float64))
    assert low <= high
    assert symlog(torch.tensor(-x)) == -symlog(torch.tensor(x))


def test_symlog_has_slope_one_at_zero() -> None:
    x = torch.zeros(3, requires_grad=True)
    (symlog(x).sum() + symexp(x).sum()).backward()
    assert torch.equal(x.grad, torch.full((3,), 2.0))


def test_symexp_bins_end_far_out_and_hold_an_exact_zero() -> None:
    bins = make_bins("symexp")
    assert len(bins) == 255 and bins[127] == 0.0
    assert bins[-1].item() == pytest.approx(4.8517e8, rel=1e-4)
    assert bins[128].item() == pytest.approx(0.170558, abs=1e-6)
    assert torch.equal(bins, -bins.flip(0))


def test_symlog_bins_are_evenly_spaced_about_an_exact_zero() -> None:
    bins = make_bins("symlog")
    assert bins[127] == 0.0 and bins[0] == -20.0 and torch.equal(bins, -bins.flip(0))
    torch.testing.assert_close(bins.diff(), torch.full((254,), 0.157480), atol=3e-6, rtol=0.0)


@pytest.mark.parametrize(
    ("kind", "x", "lower", "weight"),
    [
        ("symexp", 0.0, 127, 0.0),
        ("symexp", 0.1, 127, 0.586312),
        ("symexp", 1.0, 131, 0.382671),
        ("symexp", -15.0, 109, 0.412958),
        ("symexp", 1000.0, 170, 0.861551),
        ("symexp", 4000.0, 179, 0.651215),
        ("symlog", 0.0, 127, 0.0),
        ("symlog", 0.1, 127, 0.605220),
        ("symlog", 1.0, 131, 0.401485),
        ("symlog", -15.0, 109, 0.394062),
        ("symlog", 1000.0, 170, 0.870593),
        ("symlog", 4000.0, 179, 0.668803),
    ],
)
def test_the_golden_table_of_two_hot_targets(
    kind: str, x: float, lower: int, weight: float
) -> None:
    found, share = TwoHot(UNIFORM, kind).encode(column(x))
    assert found.item() == lower
    assert share.item() == pytest.approx(weight, abs=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_encoded_is_decoded(kind: str) -> None:
    x = column(0.0, 0.1, -0.1, 1.0, -15.0, 1000.0, 4000.0)
    decoded = certain_of(x, kind).mean
    torch.testing.assert_close(decoded, x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(certain_of(-x, kind).mean, -decoded, rtol=1e-6, atol=0.0)


@settings(max_examples=50, deadline=None)
@given(st.floats(-1e6, 1e6, width=32), st.sampled_from(KINDS))
def test_any_scalar_survives_the_round_trip(x: float, kind: str) -> None:
    lower, weight = TwoHot(UNIFORM, kind).encode(column(x))
    assert 0 <= lower.item() <= 253 and 0.0 <= weight.item() <= 1.0
    assert certain_of(column(x), kind).mean.item() == pytest.approx(x, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [0.0, 3.7, -1e3])
def test_uniform_logits_say_exactly_zero(kind: str, level: float) -> None:
    assert (TwoHot(torch.full((5, 2, 255), level), kind).mean == 0.0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("x", [0.0, 0.1, -15.0, 4000.0, 1e12])
def test_uniform_logits_cost_log_255_for_any_target(kind: str, x: float) -> None:
    assert -TwoHot(UNIFORM, kind).log_prob(column(x)).item() == pytest.approx(5.541264, abs=1e-5)


def test_torn_between_0_and_1000_only_symexp_bins_say_500() -> None:
    for kind, expected in (("symexp", 500.0), ("symlog", 30.6)):
        logits = (
            certain_of(column(0.0), kind).probs + certain_of(column(1000.0), kind).probs
        ).log()
        assert TwoHot(logits, kind).mean.item() == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_log_prob_is_the_cross_entropy_to_the_dense_two_hot(kind: str) -> None:
    logits, x = torch.randn(50, 255), torch.randn(50, 1) * 100
    dist = TwoHot(logits, kind)
    lower, weight = dist.encode(x)
    expected = torch.zeros(50)
    log_probs = logits.double().log_softmax(-1)
    for row in range(50):
        k, w = lower[row].item(), weight[row].item()
        expected[row] = (1 - w) * log_probs[row, k] + w * log_probs[row, k + 1]
    torch.testing.assert_close(dist.log_prob(x), expected)


def test_twohot_gradients_move_the_logits_not_the_target() -> None:
    logits = torch.zeros(1, 255, requires_grad=True)
    x = column(1.0).requires_grad_()
    TwoHot(logits).log_prob(x).sum().backward()
    assert x.grad is None
    assert logits.grad[0, 131].item() == pytest.approx(1 - 0.382671 - 1 / 255, abs=1e-5)
    assert logits.grad[0, 132].item() == pytest.approx(0.382671 - 1 / 255, abs=1e-5)
    assert logits.grad.sum().item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_beyond_the_bins_counts_as_the_end(kind: str) -> None:
    lower, weight = TwoHot(UNIFORM, kind).encode(column(1e12, -1e12))
    assert lower.flatten().tolist() == [253, 0] and weight.flatten().tolist() == [1.0, 0.0]


def test_the_mode_is_the_likeliest_bin() -> None:
    logits = torch.zeros(1, 255)
    logits[0, 128] = 1.0
    assert TwoHot(logits).mode.item() == pytest.approx(0.170558, abs=1e-6)
    assert TwoHot(logits, "symlog").mode.item() == pytest.approx(math.expm1(0.157480), abs=1e-5)


def test_bins_without_a_middle_are_refused() -> None:
    with pytest.raises(ValueError, match=r"odd number of bins .* got 64\. Use bins=65"):
        make_bins("symexp", 64)
    with pytest.raises(ValueError, match=r"low must be -high"):
        make_bins("symlog", 63, -10, 20)
    with pytest.raises(ValueError, match=r"kind must be 'symexp' or 'symlog'; got 'linear'"):
        TwoHot(UNIFORM, "linear")
