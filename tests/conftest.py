"""One seed and one thread for every test; `tiny.py` next to this file builds the tiny agent."""

from __future__ import annotations

import os
from pathlib import Path

# Two workers share two cores; more threads than cores make everything slower, children included.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # as the package does, if torch is first

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Only `test_*.py`: the search for doctests would import, and so train, each example here."""
    helper = collection_path.suffix == ".py" and not collection_path.name.startswith("test_")
    return True if helper else None


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    torch.manual_seed(0)
