"""Check that results can be written, before hours are spent on them."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def check_writable(option: str, path: str | Path, is_folder: bool = False) -> None:
    """Refuse a file or folder, named by an option, that cannot be written; nothing is made yet.

    Raises:
        ValueError: naming the option, the place and what is wrong with it.
    """
    try:
        place = Path(os.path.abspath(path))
        problem = _problem(place, is_folder)
    except UnicodeEncodeError:
        problem = "its name is not UTF-8, and torch reads no such file"
    except OSError as error:
        problem = str(error.strerror)
    if problem:
        raise ValueError(f"cannot write to {option}={path}: {problem}. Choose another {option}.")


def _problem(path: Path, is_folder: bool) -> str:
    """What is wrong with a place; a file that vanishes at once is written next to it."""
    str(path).encode()
    try:
        if stat.S_ISDIR(path.stat().st_mode) != is_folder:
            return "a file is there" if is_folder else "a folder is there"
        near = path if is_folder else path.parent
    except FileNotFoundError:
        if is_folder and path.is_symlink():
            return "a link that leads nowhere is there"
        near = next(parent for parent in path.parents if os.path.lexists(parent))
    with tempfile.TemporaryFile(dir=near):
        return ""
