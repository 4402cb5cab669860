"""Run a command in this process: starting another one costs seconds."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from unittest import mock

import torch

from mario_dreamer import cli


def command(folder: Path, *words: str, code: int = 0) -> str:
    """Run `mario-dreamer <words>` in a folder; return what it printed on both streams."""
    printed = io.StringIO()
    with (
        contextlib.chdir(folder), contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed), mock.patch.object(sys, "argv", [""]),
    ):  # fmt: skip
        try:
            cli.main(list(words))
            ended = 0
        except SystemExit as end:
            ended = end.code
        finally:
            torch.set_num_threads(1)
    assert ended == code and "Traceback" not in printed.getvalue(), printed.getvalue()[-2000:]
    return printed.getvalue()
