"""The command: a real server on a real port, and its messages about bad options."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection as Connection
from websockets.sync.client import connect

from mario_dreamer import cli
from mario_dreamer.config.command_words import with_bare_path
from mario_dreamer.viewer.serving import address_of, bind


def hello(page: Connection) -> str:
    """Type of the first message that is not about loading."""
    kind = "loading"
    while kind == "loading":
        kind = json.loads(page.recv(timeout=20))["type"]
    return kind


@contextmanager
def viewing(runs: Path, *words: str) -> Iterator[tuple[subprocess.Popen, str, str]]:
    """Run the command; give the process, its address and what it has said."""
    call = [sys.executable, "-m", "mario_dreamer", "view", *words, f"runs_dir={runs}"]
    process = subprocess.Popen(
        call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=runs
    )
    said = ""
    try:
        while "open http" not in said:
            line = process.stdout.readline()
            assert line, f"the server ended: {said}"
            said += line
        yield process, re.search(r"open (http\S+)", said).group(1), said
    finally:
        process.kill()
        process.wait()


def test_the_command_serves_survives_a_huge_message_and_stops(
    runs: Path,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with viewing(runs, str(runs / "tiny"), f"port={port}") as (process, url, said):
            assert f"port {port} is in use; took a free one" in said and "tiny, 7 steps" in said
            assert "Mario Dreamer" in urllib.request.urlopen(url, timeout=20).read().decode()
            live = url.replace("http", "ws") + "live"
            with connect(live) as page:
                assert hello(page) == "hello"
                with pytest.raises(ConnectionClosed):
                    page.send("x" * 2**22)
                    while True:
                        page.recv(timeout=20)
            with connect(live) as page:  # it lives on
                assert hello(page) == "hello"
                process.send_signal(signal.SIGINT)
                out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "stopped: Ctrl-C" in out and "Traceback" not in out


@pytest.mark.slow
def test_sigterm_is_answered_with_one_clear_line(runs: Path) -> None:
    with viewing(runs, str(runs / "tiny"), "port=0") as (process, url, _):
        page = connect(url.replace("http", "ws") + "live")
        assert hello(page) == "hello"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
        page.close()
    assert process.returncode == 0
    assert "stopped: asked to by SIGTERM" in out and "Traceback" not in out


def test_a_missing_checkpoint_gets_one_clear_line(runs: Path) -> None:
    call = [sys.executable, "-m", "mario_dreamer", "view", "nowhere"]
    result = subprocess.run(
        call, check=False, cwd=runs, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1 and "no run, checkpoint or file is at 'nowhere'" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_is_the_commands_own(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["view", "--help"])
    said = capsys.readouterr().out
    assert "mario-dreamer view runs/NAME" in said and "Ctrl-C stops" in said


def test_a_bare_path_stands_for_the_checkpoint() -> None:
    view, train = ("checkpoint", "recording"), ("resume", "resume")
    assert with_bare_path(["a b/it's"], *view) == [r"checkpoint='a b/it\'s'"]
    assert with_bare_path(["runs/a", "seed=1"], *train) == ["resume='runs/a'", "seed=1"]
    assert with_bare_path(["best.json"], *view) == ["recording='best.json'"]
    assert with_bare_path(["best.json"], *train) == ["resume='best.json'"]
    assert with_bare_path(["port=1"], *view) == ["port=1"]
    assert with_bare_path(["--cfg", "job"], *view) == ["--cfg", "job"]
    assert with_bare_path([], *view) == []


def test_a_host_that_cannot_be_gets_a_clear_error() -> None:
    with pytest.raises(ValueError, match="cannot listen on host=203.0.113.7"):
        bind("203.0.113.7", 0)


def test_windows_is_not_asked_to_let_two_servers_share_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("os.name", "nt")
        listener = bind("127.0.0.1", 0)
    with listener, bind("127.0.0.1", 0) as other:
        shares = [x.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) for x in (listener, other)]
    assert shares == [0, 1]


def test_the_address_can_be_opened_in_a_browser() -> None:
    with bind("0.0.0.0", 0) as listener:
        port = listener.getsockname()[1]
        assert address_of(listener, "0.0.0.0") == f"http://localhost:{port}/"
        assert address_of(listener, "::1") == f"http://[::1]:{port}/"
