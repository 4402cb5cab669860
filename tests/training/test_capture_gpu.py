"""A recorded update on a GPU, with its branches. Machines without one skip this file."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import make_tiny, random_records
from torch import Tensor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

OPTIONS = {
    "as it is": [],
    "nature's convolutions": ["encoder=cnn", "decoder=cnn", "rssm/sequence_model=block_gru"],
    "heads learn from the prior": ["loss.world_model.beta_prior=1.0"],
    "gradients through the world model": ["actor_grad=dynamics"],
    "few starts": ["imagination_starts=2"],
    "no replayed critic loss": ["loss.critic.replay_scale=0"],
}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_recorded_update_equals_one_in_a_row_bit_for_bit(option: str) -> None:
    batches = [random_records() for _ in range(9)]

    def weights(compile: str) -> Tensor:
        learner = make_tiny("device=cuda", f"compile={compile}", *OPTIONS[option]).learner
        torch.manual_seed(7)
        for batch in batches:
            learner.update(batch.clone())
        return torch.cat([p.detach().flatten() for p in learner.optimizer.parameters()]).cpu()

    plain = weights("off")
    assert plain.isfinite().all()
    assert torch.equal(plain, weights("cudagraph"))


def test_what_fails_while_an_update_is_recorded_is_what_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner, records = make_tiny("device=cuda", "compile=cudagraph").learner, random_records()
    for _ in range(5):  # the next one is recorded
        learner.update(records.clone())

    def fail(*args: Any) -> None:
        raise RuntimeError("the actor's loss broke")

    with monkeypatch.context() as patch:
        patch.setattr(learner.actor_loss, "forward", fail)
        with pytest.raises(RuntimeError, match="^the actor's loss broke$"):
            learner.update(records.clone())
    assert float(learner.update(records.clone())["total"]) > 0
