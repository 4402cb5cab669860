"""Write a file that appears only when it is whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a draft's name to write to; it takes the name `path` when all has been written.

    A kill leaves the old file as it was, and a draft `.STEM.draft*`.

    Raises:
        OSError: naming `path`; it is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}.draft{os.getpid()}{path.suffix}")
    try:
        yield draft
        draft.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one go: a kill leaves the whole of it, or the old one."""
    with atomic_file(path) as draft:
        draft.write_text(text, "utf-8")
