"""Gradients in a row, as a GPU and several processes have them, and none left by an error."""

from __future__ import annotations

import pytest
import torch
from tiny import make_tiny, random_records

from mario_dreamer.training.optim import ClippedOptimizer


def test_gradients_in_a_row_are_what_the_optimiser_sees() -> None:
    one = torch.nn.Conv2d(2, 3, 2).to(memory_format=torch.channels_last)
    two = torch.nn.Linear(2, 2)
    params = [*one.parameters(), *two.parameters()]
    row = ClippedOptimizer({"one": one, "two": two}).row
    for factor in (1.0, 2.0):
        for param in params[:-1]:  # the last one has no gradient
            param.grad = torch.full_like(param, factor)
        found = row()
        assert found.tolist() == [factor] * 27 + [0.0] + [factor] * 4  # from 24, 3 and 4 weights
        found.mul_(3.0)
        assert row().data_ptr() == found.data_ptr()
        assert all(bool((param.grad == 3 * factor).all()) for param in params[:-1])
        assert [param.grad.stride() for param in params[:-1]] == [p.stride() for p in params[:-1]]
        assert params[-1].grad is None


@pytest.mark.parametrize("optimizer", ["laprop", "adam_agc", "adam"])
def test_gradients_in_a_row_change_no_weight(optimizer: str) -> None:
    """A GPU lays all gradients in a row, to make a void update of one whose loss is not finite."""
    batches, weights = [random_records(length=3) for _ in range(2)], []
    for waits in (False, True):
        learner = make_tiny(f"optimizer={optimizer}", "optimizer.warmup=0").learner
        learner.finite.waits = waits
        torch.manual_seed(7)
        for batch in batches:
            learner.update(batch.clone())
        weights.append(torch.cat([p.detach().flatten() for p in learner.optimizer.parameters()]))
    assert torch.equal(*weights)


def test_an_error_in_the_optimiser_leaves_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_tiny().learner
    monkeypatch.setattr(learner.optimizer, "step", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        learner.update(random_records())
    assert all(param.grad is None for param in learner.optimizer.parameters())
