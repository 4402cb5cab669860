"""Find a port, run the server until Ctrl-C, leave cleanly."""

from __future__ import annotations

import errno
import signal
import socket

import uvicorn
from starlette.types import ASGIApp

__all__ = ["address_of", "bind", "run"]

LARGEST = 2**20  # bytes of a websocket message; anything larger closes the connection


def bind(host: str, port: int) -> socket.socket:
    """Take a port to listen on: the one asked for, or any free one when it is taken.

    Args:
        host: a name or an address; 127.0.0.1 keeps the page to this machine.
        port: 0 to 65535; 0 takes any free one.

    Raises:
        ValueError: no such host or port, or no right to use it.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port={port}: expected a number from 0 to 65535, such as 8700.")
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ValueError(f"host={host!r}: {error.strerror}. Try host=127.0.0.1.") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(64)  # two sockets may bind to one port, but only one may listen
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE and port:
            return bind(host, 0)
        raise ValueError(
            f"cannot listen on host={host} port={port}: {error.strerror}. "
            "Choose others, such as host=127.0.0.1 port=8700."
        ) from error
    return listener


def address_of(listener: socket.socket, host: str) -> str:
    """Return the address to open in a browser."""
    name = "localhost" if host in ("0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{listener.getsockname()[1]}/"


def run(app: ASGIApp, listener: socket.socket) -> str:
    """Serve until Ctrl-C or SIGTERM; open pages are told, and nothing is left running.

    Returns:
        what ended it, for people.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        ws="auto",
        ws_max_size=LARGEST,
        ws_per_message_deflate=False,  # squeezing pictures would cost more than making them
        timeout_graceful_shutdown=2,
    )
    # uvicorn closes everything at a signal, and then sends it once more to whoever listened
    # before: without a listener of ours SIGTERM would end the process there, without a word.
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        return "Ctrl-C"
    finally:
        signal.signal(signal.SIGTERM, before)
        listener.close()
    return "asked to by SIGTERM" if heard else "the server ended"
