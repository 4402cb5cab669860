"""The web server: static files, and one websocket per page with a simulation of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from mario_dreamer.config.tracebacks import shows_tracebacks
from mario_dreamer.training.checkpoint_files import CheckpointError
from mario_dreamer.viewer.agents import Agents
from mario_dreamer.viewer.player import Player
from mario_dreamer.viewer.protocol import AHEAD, ProtocolError, parse

STATIC = Path(__file__).parent / "static"
FULL = 4429  # close code: as many pages as allowed are open
BROKEN = 4500  # close code: the simulation itself failed
HEADERS = [
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache"),
]
REFUSED = (ValueError, KeyError, CheckpointError, ImportError, OSError)

log = logging.getLogger(__name__)


def make_app(agents: Agents, max_pages: int, is_ours: Callable[[str], bool]) -> ASGIApp:
    """Build the application.

    All computing happens in one thread, whatever the number of pages: they share one core and
    leave the others to a training run.

    Args:
        max_pages: simulations at once; one more page gets a clear message.
        is_ours: whether a host name is one of this server's, against pages of other sites that
            point a name of theirs at this machine.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        app.state.open = 0
        app.state.worker = ThreadPoolExecutor(1, "viewer")
        yield
        app.state.worker.shutdown(cancel_futures=True)

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        if app.state.open >= max_pages:
            text = (
                f"{max_pages} pages are being served already, which is as many as this server "
                "takes. Close another one, or start the server with max_pages=8."
            )
            await socket.send_json({"type": "error", "text": text, "final": True})
            await socket.close(FULL)
            return
        app.state.open += 1
        try:
            await Page(socket, app.state.worker).serve(agents)
        finally:
            app.state.open -= 1

    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return Guard(app, is_ours)


class Guard:
    """Refuse foreign hosts and foreign pages, and send careful headers with every file.

    Args:
        is_ours: whether a host name is one of this server's.
    """

    def __init__(self, app: ASGIApp, is_ours: Callable[[str], bool]) -> None:
        self.app, self.is_ours = app, is_ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with 400 (malformed) or 403 (foreign)."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        status = self._status(HTTPConnection(scope))
        if status != 200:
            text = "Malformed Host or Origin." if status == 400 else "This page may not call here."
            # Starlette answers a websocket's handshake as it answers a page.
            await PlainTextResponse(f"{text}\n", status)(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        await self.app(scope, receive, with_headers)

    def _status(self, request: HTTPConnection) -> int:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        try:
            name = _parts(f"//{host}").hostname
            caller = host if origin is None else _parts(origin).netloc
        except ValueError:
            return 400
        return 200 if name is not None and self.is_ours(name) and caller == host else 403


def _parts(address: str) -> SplitResult:
    """Split an address; raise ValueError where name or port cannot be."""
    parts = urlsplit(address)
    if parts.port == 0 or set(parts.netloc) & set(" @/\\"):
        raise ValueError(f"no address: {address!r}")
    return parts


class Page:
    """Talk to one page until it goes away."""

    def __init__(self, socket: WebSocket, worker: ThreadPoolExecutor) -> None:
        self.socket, self.worker = socket, worker
        self.commands: asyncio.Queue[str] = asyncio.Queue(64)  # a flood waits in the network
        self.unseen = 0  # frames sent, not acknowledged

    async def _compute(self, task: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.worker, task, *arguments)

    async def serve(self, agents: Agents) -> None:
        """Make a simulation, run it, and stop it when the page is closed."""
        listening = _watched(self._listen())
        tasks = [listening]
        player: Player | None = None
        try:
            await self._send({"type": "loading", "what": "the agent"})
            player = await self._compute(Player, agents)
            playing = _watched(self._play(player))
            tasks.append(playing)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not listening.done():
                playing.result()
        except WebSocketDisconnect:
            pass
        except Exception as error:
            name, trace = type(error).__name__, shows_tracebacks()
            log.error("a page's simulation failed: %s: %s", name, error, exc_info=trace)
            text = f"the simulation stopped: {error}"
            with suppress(Exception):
                await self.socket.send_json({"type": "error", "text": text, "final": True})
                await self.socket.close(BROKEN)
        finally:
            for task in tasks:
                task.cancel()
            if player is not None:
                with suppress(RuntimeError):  # at shutdown the thread is gone already
                    self.worker.submit(player.close)

    async def _listen(self) -> None:
        while True:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            await self.commands.put(text if text is not None else "\0binary")

    async def _play(self, player: Player) -> None:
        """Show frames at the page's pace, and do what it asks in between."""
        await self.socket.send_json(await self._compute(player.hello))
        await self._send(await self._compute(player.tick))
        due = time.monotonic() + 1 / player.rate
        while True:
            stopped = player.idle or self.unseen >= AHEAD
            wait = None if stopped else max(0.0, due - time.monotonic())
            try:
                text = await asyncio.wait_for(self.commands.get(), wait)
            except TimeoutError:
                await self._send(await self._compute(player.tick))
                # A slow client or machine falls behind; it is not made to catch up.
                due = max(due + 1 / player.rate, time.monotonic())
            else:
                await self._obey(player, text)
                due = max(due, time.monotonic()) if player.idle else due

    async def _obey(self, player: Player, text: str) -> None:
        try:
            command = parse(text)
            if command["type"] == "ack":
                self.unseen = max(0, self.unseen - 1)
                return
            if (what := player.loads(command)) is not None:
                await self._send({"type": "loading", "what": what})
            for answer in await self._compute(player.apply, command):
                await self._send(answer)
        except ProtocolError as error:
            await self._send({"type": "error", "text": f"not understood: {error}"})
        except REFUSED as error:
            reason = error.args[0] if isinstance(error, KeyError) and error.args else error
            await self._send({"type": "error", "text": str(reason)})

    async def _send(self, message: dict[str, Any] | bytes) -> None:
        if isinstance(message, bytes):
            self.unseen += 1
            await self.socket.send_bytes(message)
        else:
            await self.socket.send_json(message)


def _watched(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a task whose error nobody may come to ask for, because the page went away."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
