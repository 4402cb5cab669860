from __future__ import annotations

import math

import pytest
import torch

from mario_dreamer.agent.distribution_module import likeliest
from mario_dreamer.networks.action_heads import (
    BernoulliActionHead,
    BoundedNormalHead,
    MultiOneHotHead,
    OneHotHead,
    TanhNormalHead,
    TruncatedNormalHead,
    make_action_head,
)

HEADS = {
    "onehot": (OneHotHead, {"action_dim": 3}),
    "multi_onehot": (MultiOneHotHead, {"choices": [2, 3]}),
    "bernoulli": (BernoulliActionHead, {"action_dim": 3}),
    "bounded_normal": (BoundedNormalHead, {"action_dim": 2}),
    "tanh_normal": (TanhNormalHead, {"action_dim": 2}),
    "truncated_normal": (TruncatedNormalHead, {"action_dim": 2}),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_gives_one_log_prob_per_state(name: str) -> None:
    head_class, sizes = HEADS[name]
    head = head_class(8, layers=1, units=4, **sizes)
    params = head(torch.randn(5, 4, 8))
    for dist in (head.dist(params), head.uniform(params)):
        action = dist.sample()
        assert action.shape[:-1] == dist.log_prob(action).shape == (5, 4)
        assert bool(dist.log_prob(action).isfinite().all())
    assert likeliest(head.dist(params)).shape == action.shape


@pytest.mark.parametrize("name", HEADS)
def test_a_head_reads_nothing_back_from_the_device(name: str) -> None:
    """On `meta` no tensor has a value: reading one, or checking one, raises."""
    head_class, sizes = HEADS[name]
    params = head_class(8, layers=1, units=4, **sizes).to("meta")(torch.zeros(5, 8, device="meta"))
    dist = head_class(8, **sizes).dist(params)
    action = dist.rsample() if getattr(dist, "has_rsample", True) else dist.sample()
    assert action.device.type == dist.log_prob(action).device.type == "meta"
    assert likeliest(dist).shape == action.shape


def test_a_bounded_normal_follows_the_reference() -> None:
    head = BoundedNormalHead(4, action_dim=2, layers=0)
    mean, std = torch.tensor([0.5, -3.0]), torch.tensor([0.0, 1.0])
    dist = head.dist(torch.cat([mean, std]))
    torch.testing.assert_close(dist.mode, mean.tanh())
    expected = 0.1 + 0.9 * torch.sigmoid(std + 2)
    torch.testing.assert_close(dist.base_dist.scale, expected)
    entropy = (0.5 * math.log(2 * math.pi * math.e) + expected.log()).sum()
    torch.testing.assert_close(dist.entropy(), entropy)
    x = torch.tensor([2.0, 0.0])
    normal = torch.distributions.Normal(mean.tanh(), expected)
    torch.testing.assert_close(dist.log_prob(x), normal.log_prob(x).sum())


def test_the_std_of_a_bounded_normal_stays_in_its_range() -> None:
    head = BoundedNormalHead(4, action_dim=1, min_std=0.2, max_std=0.7)
    stds = [float(head.dist(torch.tensor([0.0, s])).base_dist.scale) for s in (-99.0, 99.0)]
    assert stds == pytest.approx([0.2, 0.7])


def test_squashed_actions_stay_within_one() -> None:
    params = torch.randn(500, 4) * 5
    for head_class in (TanhNormalHead, TruncatedNormalHead):
        sample = head_class(4, action_dim=2).dist(params).sample()
        assert float(sample.abs().max()) <= 1.0


def test_several_choices_add_their_log_probs_and_entropies() -> None:
    dist = MultiOneHotHead(4, choices=[2, 3], unimix=0.0).dist(torch.zeros(5))
    action = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0])
    assert float(dist.log_prob(action)) == pytest.approx(-math.log(6))
    assert float(dist.entropy()) == pytest.approx(math.log(6))
    drawn = torch.stack([dist.sample() for _ in range(50)])
    assert torch.equal(drawn[:, :2].sum(-1), torch.ones(50))
    assert torch.equal(drawn[:, 2:].sum(-1), torch.ones(50))


def test_a_mask_forbids_actions_and_keeps_the_ratio_of_others() -> None:
    dist = OneHotHead(4, action_dim=3, unimix=0.0).dist(torch.tensor([0.0, math.log(3), 9.0]))
    masked = dist.masked(torch.tensor([True, True, False]))
    torch.testing.assert_close(masked.probs, torch.tensor([0.25, 0.75, 0.0]))
    assert masked.mode.tolist() == [0.0, 1.0, 0.0]
    assert not any(bool(masked.sample()[2]) for _ in range(50))


def test_a_mask_holds_where_what_it_allows_is_next_to_impossible() -> None:
    dist = OneHotHead(4, action_dim=3, unimix=0.0).dist(torch.tensor([0.0, -120.0, -130.0]))
    masked = dist.masked(torch.tensor([False, True, True]))
    assert masked.mode.tolist() == [0.0, 1.0, 0.0]
    assert float(masked.probs[2] / masked.probs[1]) == pytest.approx(math.exp(-10), rel=1e-3)
    assert not any(bool(masked.sample()[0]) for _ in range(50))


def test_a_mask_of_several_choices_is_split_among_them() -> None:
    dist = MultiOneHotHead(4, choices=[2, 2], unimix=0.0).dist(torch.zeros(4))
    masked = dist.masked(torch.tensor([True, False, True, True]))
    assert masked.probs.tolist() == pytest.approx([1.0, 0.0, 0.5, 0.5])


def test_the_factory_makes_the_head_of_a_kind() -> None:
    assert make_action_head(4, "onehot", action_dim=3, unimix=0.5).unimix == 0.5
    assert make_action_head(4, "multi_onehot", choices=[2, 3]).choices == (2, 3)
    assert make_action_head(4, "continuous", action_dim=2, max_std=0.4).max_std == 0.4
    assert type(make_action_head(4, "binary", action_dim=2)) is BernoulliActionHead
