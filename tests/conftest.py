"""One seed for every test; `tiny.py` beside this file builds the tiny agent."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    torch.manual_seed(0)
