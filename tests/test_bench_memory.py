"""The count of live bytes that says what fits on which GPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "bench_memory.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FILE.parent))
        spec = importlib.util.spec_from_file_location("bench_memory", FILE)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def test_bytes_are_counted_while_a_tensor_lives_and_a_view_is_none_of_its_own(
    bench: ModuleType,
) -> None:
    with bench.Live() as live:
        a = torch.zeros(1000)  # 4,000 bytes
        b = a + 1  # 4,000 more
        view = a[:10]
        assert (live.now, live.peak) == (8_000, 8_000)
        del b
        c = torch.zeros(250)  # 1,000
        assert (live.now, live.peak) == (5_000, 8_000)
        del a
        assert live.now == 5_000  # the view holds it
        del view, c
    assert live.now == 0


@pytest.mark.slow
def test_an_update_keeps_weights_and_twice_the_activations_of_half_the_records(
    bench: ModuleType,
) -> None:
    sizes = ["batch_length=4", "imag_horizon=3"]
    one, two = (bench.measure("debug", [*sizes, f"batch_size={n}"]) for n in (8, 16))
    fixed = one["weights_gradients_moments_gib"]
    assert fixed == 16 * one["parameters"] / 2**30 < one["update_gib"]
    ratio = (two["update_gib"] - fixed) / (one["update_gib"] - fixed)
    assert 1.8 < ratio < 2.05
