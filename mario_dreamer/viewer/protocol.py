"""Messages between page and server: JSON commands up, JSON and packed pictures down."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import to_json
from torch import Tensor

from mario_dreamer.viewer.controller import BUTTONS

LIMIT = 4096  # characters of a command; the page's are all far below
AHEAD = 2  # frames on their way at once: more would pile up before a slow page


class ProtocolError(ValueError):
    """A message that is no valid command; its text goes back to the sender."""


_Text = Annotated[str, Field(min_length=1, max_length=64)]
_Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
_Steps = Annotated[int, Field(ge=0, le=10**6)]
_Button = Literal[(*BUTTONS, *"0123456789")]
FIELDS: dict[str, dict[str, Any]] = {
    "pause": {"on": (bool, ...)},
    "hidden": {"on": (bool, ...)},
    "ack": {},  # a frame has arrived; the server waits for it after AHEAD of them
    "step": {},
    "rate": {"value": (Annotated[float, Field(ge=0.5, le=120)], ...)},
    "restart": {"seed": (_Seed | None, None), "stage": (_Text | None, None)},
    "greedy": {"on": (bool, ...)},
    "open_loop": {"on": (bool, ...)},
    "horizon": {"value": (Annotated[int, Field(ge=1, le=60)], ...)},
    "agent": {"id": (_Text, ...), "seed": (_Seed | None, None), "stage": (_Text | None, None)},
    "dream": {"on": (bool, ...)},
    "recording": {"id": (_Text, ...), "position": (_Steps, ...)},
    "again": {},
    "keys": {"held": (Annotated[list[_Button], Field(max_length=16)], ...)},
}
_STRICT = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)
COMMANDS: dict[str, type[BaseModel]] = {
    name: create_model(name, __config__=_STRICT, type=(str, ...), **fields)
    for name, fields in FIELDS.items()
}


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
    try:
        return COMMANDS[kind].model_validate(message).model_dump(exclude_none=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join([kind, *(str(part)[:40] for part in first["loc"])])
        raise ProtocolError(f"{place}: {first['msg'][:200]}.") from None


@dataclass
class Frame:
    """All that is shown of one moment.

    Args:
        info: names to plain numbers, strings and lists.
        pictures: names to uint8 [H, W, C] tensors: screen, observation, decoded, foreseen, latent.
    """

    info: dict[str, Any]
    pictures: dict[str, Tensor]


def pack(frame: Frame) -> bytes:
    """Pack a frame into one binary message.

        uint32 little endian: length of the JSON | JSON | raw pictures

    The JSON lists the pictures in order as {"name", "height", "width", "channels"}; a number that
    is not finite is null. Raw bytes cost the server nothing; compression would cost more time than
    the networks.

    Args:
        frame: info and pictures.
    """
    listed, bodies = [], []
    for name, picture in frame.pictures.items():
        height, width, channels = picture.shape
        listed.append({"name": name, "height": height, "width": width, "channels": channels})
        bodies.append(picture.contiguous().numpy().tobytes())
    info = {"type": "frame", **frame.info, "pictures": listed}
    header = to_json(info, inf_nan_mode="null")
    return b"".join([struct.pack("<I", len(header)), header, *bodies])
