"""Whether errors are shown with their traceback."""

from __future__ import annotations

import os


def shows_tracebacks() -> bool:
    """Return whether MARIO_DREAMER_TRACEBACK is set, to anything but 0."""
    return os.environ.get("MARIO_DREAMER_TRACEBACK", "0") not in ("", "0")
