"""Who ended when a connection broke: on this machine by its process id, elsewhere by a file."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mario_dreamer.training import liveness
from mario_dreamer.training.liveness import ended_ranks

HERE = (socket.gethostname(), os.getpid())


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "PATIENCE", 0.5)
    monkeypatch.setattr(liveness, "CLOSING", 0.2)


def gone() -> tuple[str, int]:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return socket.gethostname(), child.pid


def test_a_process_of_this_machine_that_ended_is_found() -> None:
    assert ended_ranks([HERE, gone()], rank=0) == [1]


def test_a_process_of_another_machine_that_stays_silent_has_ended(tmp_path: Path) -> None:
    assert ended_ranks([HERE, ("m1", 7), ("m2", 8)], 0, tmp_path) == [1, 2]


def test_a_process_of_another_machine_that_leaves_its_file_is_left(tmp_path: Path) -> None:
    members = [HERE, ("m1", 7), ("m2", 8)]
    late = threading.Timer(0.1, (tmp_path / ".here-002-8").touch)
    late.start()
    assert ended_ranks(members, 0, tmp_path) == [1]
    assert (tmp_path / f".here-000-{os.getpid()}").exists(), "the others look for it"


def test_files_of_a_training_before_do_not_count(tmp_path: Path) -> None:
    (tmp_path / ".here-001-6").touch()
    assert ended_ranks([HERE, ("m1", 7)], 0, tmp_path) == [1]


def test_without_a_folder_nothing_is_said_of_other_machines() -> None:
    assert ended_ranks([HERE, ("m1", 7)], 0) == []
