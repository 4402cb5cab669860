from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import bench_scale as scale


def test_the_cost_model_is_the_formula_by_hand() -> None:
    machine = scale.Machine(
        update=0.04, size=60e6, records=1000, train_ratio=250, cores=10, steps_per_core=100,
        per_node=2, inside=(300e9, 0.0), between=(30e9, 1e-5),
    )  # fmt: skip
    alone, four = scale.predict(machine, 1), scale.predict(machine, 4)
    assert alone["agent_steps_per_s"] == pytest.approx(1 / (0.25 * 0.04 + 1 / 1000))
    assert alone["efficiency"] == pytest.approx(1.0)
    assert four["all_reduce_ms"] == pytest.approx(2 * 3 / 4 * 2.0 + 6e-2)
    assert four["efficiency"] < 1.0
    assert scale.predict(machine, 2)["all_reduce_ms"] == pytest.approx(0.2)


def test_a_process_measures_its_update_and_what_it_exchanges() -> None:
    found = scale.work("debug", repeats=1)
    assert found["processes"] == 1 and found["update_ms"] > 0 and found["exchange_ms"] > 0
