"""One seed and one thread for every test; `tiny.py` next to this file builds the tiny agent."""

from __future__ import annotations

import os

# Two workers share two cores; more threads than cores make everything slower, children included.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # as the package does, if torch is first

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    torch.manual_seed(0)
