"""One seed and one thread for every test; `tiny.py` next to this file builds the tiny agent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Read when torch is imported, which the process that hands out the tests never does. Two workers
# share two cores; more threads than cores make everything slower, children included.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # as the package does, if torch is first


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Only `test_*.py`: the search for doctests would import, and so train, each example here."""
    helper = collection_path.suffix == ".py" and not collection_path.name.startswith("test_")
    return True if helper else None


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Seed torch. Before CUDA is used, `torch.manual_seed` formats the stack: 2 ms a test."""
    import torch

    torch.default_generator.manual_seed(0)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)
