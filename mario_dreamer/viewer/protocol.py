"""Messages between page and server: JSON commands up, JSON and packed pictures down."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from typing import Any

from mario_dreamer.viewer.controller import BUTTONS
from mario_dreamer.viewer.simulation import Frame

__all__ = ["AHEAD", "LIMIT", "ProtocolError", "pack", "parse", "plain"]

LIMIT = 4096  # characters of a command; the page's are all far below
AHEAD = 2  # frames on their way at once: more would pile up before a slow page
MAX_RATE, MAX_HORIZON, MAX_SEED, MAX_STEPS = 120.0, 60, 2**31 - 1, 10**6


class ProtocolError(ValueError):
    """A message that is no valid command; its text goes back to the sender."""


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ProtocolError("true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 64:
        raise ProtocolError("a text of 1 to 64 characters")
    return value


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ProtocolError(f"a whole number from {low} to {high}")
        return value

    return check


def _rate(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0.5 <= value <= MAX_RATE:
        raise ProtocolError(f"a number from 0.5 to {MAX_RATE:g}, steps per second")
    return float(value)


def _buttons(value: Any) -> frozenset[str]:
    known = {*BUTTONS, *"0123456789"}
    if not isinstance(value, list) or len(value) > 16 or not all(
        isinstance(button, str) and button in known for button in value
    ):  # fmt: skip
        raise ProtocolError(f"a list of buttons out of {', '.join(BUTTONS)} and digits")
    return frozenset(value)


# Command -> field -> (check, whether it may be left out).
COMMANDS: dict[str, dict[str, tuple[Callable[[Any], Any], bool]]] = {
    "pause": {"on": (_boolean, False)},
    "hidden": {"on": (_boolean, False)},
    "ack": {},  # a frame has arrived; the server waits for it after AHEAD of them
    "step": {},
    "rate": {"value": (_rate, False)},
    "restart": {"seed": (_whole(0, MAX_SEED), True), "stage": (_text, True)},
    "greedy": {"on": (_boolean, False)},
    "open_loop": {"on": (_boolean, False)},
    "horizon": {"value": (_whole(1, MAX_HORIZON), False)},
    "agent": {
        "id": (_text, False), "seed": (_whole(0, MAX_SEED), True), "stage": (_text, True),
    },
    "dream": {"on": (_boolean, False)},
    "recording": {"id": (_text, False), "position": (_whole(0, MAX_STEPS), False)},
    "again": {},
    "keys": {"held": (_buttons, False)},
}  # fmt: skip


def parse(text: str) -> dict[str, Any]:
    """Read and check one command.

    Args:
        text: JSON, such as {"type": "rate", "value": 15}.

    Returns:
        `type` and the command's fields, checked.

    Raises:
        ProtocolError: what was wrong, and what is expected.
    """
    if len(text) > LIMIT:
        raise ProtocolError(f"a message of {len(text)} characters; at most {LIMIT} are taken.")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(
            'that message is not JSON; expected one like {"type": "step"}.'
        ) from error
    kind = message.get("type") if isinstance(message, dict) else None
    if not isinstance(kind, str) or kind not in COMMANDS:
        raise ProtocolError(
            f'there is no command {str(kind)[:40]!r}; expected a "type" out of '
            f"{', '.join(COMMANDS)}."
        )
    fields = COMMANDS[kind]
    unknown = sorted(str(name)[:40] for name in message if name != "type" and name not in fields)
    if unknown:
        raise ProtocolError(
            f"{kind}: unknown field {unknown[0]!r}; expected {', '.join(fields) or 'none'}."
        )
    command: dict[str, Any] = {"type": kind}
    for name, (check, optional) in fields.items():
        if message.get(name) is None and optional:
            continue
        try:
            command[name] = check(message.get(name))
        except ProtocolError as error:
            got = json.dumps(message.get(name))[:60]
            raise ProtocolError(f"{kind}.{name}: got {got}, expected {error}.") from None
    return command


def plain(value: Any) -> Any:
    """Make info fit for JSON: short floats, and null for what is not a finite number."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def pack(frame: Frame) -> bytes:
    """Pack a frame into one binary message.

        uint32 little endian: length of the JSON | JSON | raw pictures

    The JSON lists the pictures in order as {"name", "height", "width", "channels"}. Raw bytes
    cost the server nothing; compression would cost more time than the networks.

    Args:
        frame: info and uint8 pictures [H, W, C].
    """
    listed, bodies = [], []
    for name, picture in frame.pictures.items():
        height, width, channels = picture.shape
        listed.append({"name": name, "height": height, "width": width, "channels": channels})
        bodies.append(picture.contiguous().numpy().tobytes())
    header = json.dumps({"type": "frame", **plain(frame.info), "pictures": listed}).encode()
    return b"".join([struct.pack("<I", len(header)), header, *bodies])
