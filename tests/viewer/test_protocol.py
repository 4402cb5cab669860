"""Every message that is not ours gets one clear answer; a frame survives its packing."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mario_dreamer.viewer.controller import nearest_action
from mario_dreamer.viewer.protocol import COMMANDS, LIMIT, Frame, ProtocolError, pack, parse

SIMPLE = ("noop", "right", "right+A", "right+B", "right+A+B", "A", "left")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 4000, "not JSON"),
        ("[]", "no command 'None'"),
        ("7", "no command 'None'"),
        ('{"type": "explode"}', "no command 'explode'"),
        ('{"type": ["step"]}', "no command"),
        ('{"type": "step", "twice": true}', "step.twice: Extra inputs are not permitted"),
        ('{"type": "pause"}', "pause.on: Field required"),
        ('{"type": "pause", "on": 1}', "pause.on: Input should be a valid boolean"),
        ('{"type": "rate", "value": 1e9}', "rate.value: Input should be less than or equal to 120"),
        ('{"type": "rate", "value": NaN}', "rate.value"),
        ('{"type": "rate", "value": true}', "rate.value: Input should be a valid number"),
        ('{"type": "horizon", "value": 0}', "greater than or equal to 1"),
        (
            '{"type": "restart", "seed": -1}',
            "restart.seed: Input should be greater than or equal to 0",
        ),
        ('{"type": "restart", "seed": 1.5}', "restart.seed: Input should be a valid integer"),
        ('{"type": "keys", "held": ["start"]}', "keys.held.0: Input should be 'A', 'right'"),
        ('{"type": "keys", "held": "A"}', "keys.held: Input should be a valid list"),
        ('{"type": "keys", "held": [[]]}', "keys.held.0"),
        ('{"type": "agent", "id": ""}', "agent.id: String should have at least 1 character"),
        (json.dumps({"type": "agent", "id": "x" * LIMIT}), f"at most {LIMIT}"),
    ],
)
def test_a_message_that_is_not_ours_is_refused_with_a_reason(text: str, said: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(text)
    assert said in str(caught.value) and len(str(caught.value)) < 400


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
    st.sampled_from(sorted(COMMANDS)),
    st.sampled_from(["on", "value", "seed", "held", "id", "shut", "stage"]),
)
def test_no_value_of_any_field_raises_another_error(value: object, kind: str, field: str) -> None:
    try:
        command = parse(json.dumps({"type": kind, field: value}))
    except ProtocolError:
        return
    assert command["type"] == kind


def test_optional_fields_may_be_left_out() -> None:
    assert parse('{"type": "restart"}') == {"type": "restart"}
    assert parse('{"type": "restart", "seed": 4}') == {"type": "restart", "seed": 4}


def test_a_packed_frame_can_be_read_back_without_nan() -> None:
    picture = torch.arange(12, dtype=torch.uint8).view(2, 2, 3).permute(1, 0, 2)
    info = {"value": float("nan"), "probs": [0.5, float("inf")], "world": {"x": 1.0}}
    message = pack(Frame(info, {"real": picture}))
    length = struct.unpack("<I", message[:4])[0]
    header = json.loads(message[4 : 4 + length])
    assert header["value"] is None and header["probs"] == [0.5, None]
    assert header["pictures"] == [{"name": "real", "height": 2, "width": 2, "channels": 3}]
    assert list(message[4 + length :]) == picture.flatten().tolist()


@pytest.mark.parametrize(
    ("held", "action"),
    [
        ([], "noop"), (["right"], "right"), (["right", "A"], "right+A"), (["B"], "noop"),
        (["right", "A", "B"], "right+A+B"), (["left", "A"], "A"), (["left", "right"], "right"),
        (["down"], "noop"), (["6"], "left"), (["9"], "noop"),
    ],
)  # fmt: skip
def test_held_keys_become_the_nearest_action(held: list[str], action: str) -> None:
    assert SIMPLE[nearest_action(held, SIMPLE)] == action
