"""One update on Apple's GPU, and the operators that run on the CPU there."""

from __future__ import annotations

import re
import warnings

import pytest
import torch
from tiny import make_tiny, random_records

from mario_dreamer.tracking.values import numbers
from mario_dreamer.training.acceleration import resolve_device

FALLBACK = re.compile(r"The operator '([^']+)' is not currently supported on the MPS backend")


def fallbacks(messages: list[str]) -> list[str]:
    """Names of the operators that torch's warnings say run on the CPU."""
    return sorted({name for message in messages for name in FALLBACK.findall(message)})


def test_operators_that_fall_back_are_read_from_warnings() -> None:
    said = (
        "The operator 'aten::{}' is not currently supported on the MPS backend and will fall back "
        "to run on the CPU. This may have performance implications."
    )
    found = fallbacks([said.format("kthvalue"), "something else", said.format("angle")] * 2)
    assert found == ["aten::angle", "aten::kthvalue"]


@pytest.mark.mps
@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs an Apple GPU (mps)")
def test_an_update_on_an_apple_gpu_is_finite(capsys: pytest.CaptureFixture) -> None:
    torch.set_warn_always(True)  # each operator, not only the first one
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            learner = make_tiny("device=mps").learner
            metrics = learner.update(random_records())
            found = numbers({k: metrics[k] for k in metrics.keys() if k.startswith("loss_")})
    finally:
        torch.set_warn_always(False)
    with capsys.disabled():
        print("fall back to the CPU:", *fallbacks([str(w.message) for w in caught]))
    assert learner.device == resolve_device("mps") and found
    assert all(abs(value) < float("inf") for value in found.values())
