"""Find a port, run the server until Ctrl-C, close cleanly."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})  # names of this machine itself
PATIENCE = 10.0  # seconds that a connection may stay open without a whole request

LARGEST = 2**20  # bytes of a websocket message; anything larger closes the connection


def bind(host: str, port: int) -> socket.socket:
    """Take a port to listen on: the one asked for, or any free one when it is taken.

    Args:
        host: a name or an address; 127.0.0.1 keeps the page to this machine.
        port: 0 to 65535; 0 takes any free one.

    Raises:
        ValueError: no such host, or no right to use the port.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ValueError(f"host={host!r}: {error.strerror}. Try host=127.0.0.1.") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":  # Windows would let two servers listen on one port
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


def host_check(host: str) -> Callable[[str], bool]:
    """Return the test of host names that a server on `host` may be called by.

    A server on every interface takes any address, its machine's name and `NAME.local`. A page of
    another site could only come in by a name of its own, which is none of these.

    Args:
        host: as given to `bind`.
    """
    own = LOCAL | {host.lower()}
    if host not in ("0.0.0.0", "::"):
        return own.__contains__
    machine = socket.gethostname().lower()
    own |= {machine, f"{machine}.local", socket.getfqdn().lower()}

    def check(name: str) -> bool:
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return name in own

    return check


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 whose connections end when no whole request arrives within PATIENCE seconds."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start the clock of a new connection."""
        super().connection_made(transport)
        self.loop.call_later(PATIENCE, self._give_up, transport)

    def _give_up(self, transport: asyncio.Transport) -> None:
        # A websocket has another protocol by then, and its own pings.
        if self.cycle is None and transport.get_protocol() is self:
            transport.close()


def address_of(listener: socket.socket, host: str) -> str:
    """Return the address to open in a browser."""
    name = "localhost" if host in ("0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{listener.getsockname()[1]}/"


def run(app: ASGIApp, listener: socket.socket) -> str:
    """Serve until Ctrl-C or SIGTERM; open pages are closed, and nothing is left running.

    Returns:
        what ended it, in words.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        http=ImpatientProtocol,
        ws="auto",
        ws_max_size=LARGEST,
        ws_ping_interval=20.0,  # a page that vanished without a word is gone after 40 s
        ws_ping_timeout=20.0,
        ws_per_message_deflate=False,  # compressing pictures costs more than making them
        timeout_graceful_shutdown=2,
    )
    # uvicorn closes everything at a signal and then sends it again to the handler from before:
    # SIGTERM's own would end the process there, and Ctrl-C's raise an error that may come out in a
    # callback of the garbage collector and be lost.
    heard: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: heard.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listener.close()
    words = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "asked to by SIGTERM"}
    return words[heard[0]] if heard else "the server ended"
