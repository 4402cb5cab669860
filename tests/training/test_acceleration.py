from __future__ import annotations

import pytest
import torch

from mario_dreamer.training.acceleration import (
    accelerate,
    autocast,
    autocast_dtype,
    resolve_device,
)

CPU = torch.device("cpu")


def test_off_gives_the_function_itself() -> None:
    for word in ("off", "False", False):
        assert accelerate(abs, word, CPU) is abs


@pytest.mark.parametrize(
    ("mode", "message"), [("fast", "expected off, on or cudagraph"), ("cudagraph", "needs a CUDA")]
)
def test_a_mode_that_cannot_be_is_refused(mode: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        accelerate(abs, mode, CPU)


def test_the_words_for_precision() -> None:
    assert autocast_dtype("bf16", CPU) is autocast_dtype(16, CPU) is torch.bfloat16
    assert autocast_dtype("fp32", CPU) is autocast_dtype(32, CPU) is None
    assert autocast_dtype("auto", CPU) in (None, torch.bfloat16)
    with pytest.raises(ValueError, match="precision='half': expected auto"):
        autocast_dtype("half", CPU)


def test_without_a_type_everything_stays_float32() -> None:
    product = torch.ones(2, 2)
    with autocast(CPU, None):
        assert (product @ product).dtype == torch.float32
    with autocast(CPU, torch.bfloat16):
        assert (product @ product).dtype == torch.bfloat16


def test_devices_by_name() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ValueError, match="is not a device"):
        resolve_device("toaster")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_said_so() -> None:
    with pytest.raises(ValueError, match="no CUDA GPU.*device=cpu"):
        resolve_device("cuda:1")
