"""Liveness: find out which processes of a training ended when a connection broke, on any machine."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

PATIENCE = 10.0  # seconds in which processes of other machines say that they are left
CLOSING = 2.0  # seconds in which a process of this machine is gone: its connection closes before
SIGNS = ".here-*"  # the files they leave


def ended_ranks(
    members: Sequence[tuple[str, int]], rank: int, shared_folder: Path | None = None
) -> list[int]:
    """Return the ranks that do not run any more; each process that is left calls this.

    A process of this machine is looked up. Those of other machines leave a file in a folder that
    all of them see; one that has left none within `PATIENCE` counts as ended.

    Args:
        members: host name and process id of each rank.
        rank: of this process.
        shared_folder: the folder; None: nothing is known of other machines.
    """
    own = socket.gethostname()
    signs = [SIGNS.replace("*", f"{r:03d}-{pid}") for r, (_, pid) in enumerate(members)]
    away = [] if shared_folder is None else [r for r, (host, _) in enumerate(members) if host != own]
    with contextlib.suppress(OSError):
        if away:
            (shared_folder / signs[rank]).touch()
    end = time.monotonic() + (PATIENCE if away else CLOSING)
    while True:
        ended = [r for r, (host, pid) in enumerate(members) if host == own and not _runs(pid)]
        absent = []
        with contextlib.suppress(OSError):  # nothing is known where the folder cannot be read
            there = os.listdir(shared_folder) if away else []
            absent = [r for r in away if signs[r] not in there]
        over = time.monotonic() > end
        if over or (ended and not absent):
            return sorted({*ended, *absent})
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
