"""How a script is run: what it cannot use ends it in one line, not in a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any


def run_script(main: Callable[[], Any], *errors: type[Exception]) -> None:
    """Run a script's `main`, and end with what it returns as the exit code.

    A folder that is not there, an unknown name, a number out of range or a command that failed is
    one line and exit code 1; MARIO_DREAMER_TRACEBACK=1 shows where.

    Args:
        errors: more of those than ValueError, OSError and CalledProcessError.
    """
    try:
        sys.exit(main())
    except (ValueError, OSError, subprocess.CalledProcessError, *errors) as error:
        if os.environ.get("MARIO_DREAMER_TRACEBACK", "0") not in ("", "0"):
            raise
        known = isinstance(error, OSError) and error.filename is not None
        sys.exit(f"error: {f'{error.filename}: {error.strerror}' if known else error}")
