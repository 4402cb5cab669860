"""Wrong shapes, dtypes, devices and missing keys at the boundary of every module and loss."""

from __future__ import annotations

import functools

import pytest
import torch
from boundaries import DTYPES, Boundary, broken, make_boundaries
from fuzzing import check_answer, examples
from hypothesis import given
from hypothesis import strategies as st


def anything(good: torch.Tensor, takes: set[torch.dtype]) -> st.SearchStrategy:
    """Tensors of any shape and type; that of another type has to be refused."""

    def made(shape: list[int], dtype: torch.dtype) -> tuple[str, torch.Tensor, bool]:
        return f"any {dtype}: {shape}", torch.zeros(shape, dtype=dtype), dtype not in takes

    shapes = st.lists(st.integers(0, 6), max_size=5)
    return st.builds(made, shapes, st.sampled_from(DTYPES))


@functools.cache
def all_boundaries() -> dict[str, Boundary]:
    return make_boundaries()


BOUNDARIES = [
    "ActorLoss", "CriticLoss of rollouts", "CriticLoss of records", "Imagination", "Learner.update",
    "Policy", "Replay.extend", "Replay.update_latents", "Returns", "WorldModel",
    "WorldModel.open_loop", "WorldModelLoss", "env.step", "to_records",
]  # fmt: skip


def test_no_input_check_is_left_out() -> None:
    assert sorted(all_boundaries()) == sorted(BOUNDARIES)


@pytest.mark.parametrize("name", BOUNDARIES)
def test_what_is_good_is_taken(name: str) -> None:
    boundary = all_boundaries()[name]
    boundary.call({key: value.clone() for key, value in boundary.inputs.items()})


@pytest.mark.fuzz
@pytest.mark.parametrize("name", BOUNDARIES)
@examples(6)
@given(data=st.data())
def test_a_spoilt_tensor_gets_one_clear_message(name: str, data: st.DataObject) -> None:
    boundary = all_boundaries()[name]
    inputs = {key: value.clone() for key, value in boundary.inputs.items()}
    spoilt = data.draw(st.lists(st.sampled_from(list(inputs)), min_size=1, max_size=2, unique=True))
    shown, refuse = [], False
    for key in spoilt:
        good, takes = boundary.inputs[key], boundary.takes[key]
        ways = broken(good, takes, boundary.loose.get(key, 0), boundary.free.get(key, set()))
        way, inputs[key], wrong = data.draw(st.sampled_from(ways) | anything(good, takes))
        shown.append(f"{key} {way}")
        refuse |= wrong and not (way == "missing" and key in boundary.optional)
    # Two spoilt ones may fit each other again: then it is enough that nothing breaks.
    alone = len(spoilt) == 1
    check_answer(name, " and ".join(shown), lambda: boundary.call(inputs), refuse and alone,
          group=None if alone else "two at once")  # fmt: skip
