"""The server: pages come and go, send malformed or too many messages; it goes on."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from socket import gethostname

import pytest
import uvicorn
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from mario_dreamer.viewer import serving
from mario_dreamer.viewer.agents import Agents
from mario_dreamer.viewer.environment import LiveEnv
from mario_dreamer.viewer.protocol import AHEAD
from mario_dreamer.viewer.server import FULL, make_app
from mario_dreamer.viewer.serving import bind, host_check


@pytest.fixture
def client(agents: Agents) -> Iterator[TestClient]:
    app = make_app(agents, max_pages=2, is_ours=host_check("testserver"))
    with TestClient(app, base_url="http://127.0.0.1:8700") as client:
        yield client


def header(message: bytes) -> dict:
    length = struct.unpack("<I", message[:4])[0]
    return json.loads(message[4 : 4 + length])


class Visitor:
    """A page of few words: acknowledges frames as ours does."""

    def __init__(self, socket) -> None:
        self.socket = socket
        assert socket.receive_json() == {"type": "loading", "what": "the agent"}
        self.hello = socket.receive_json()

    def frame(self) -> dict:
        """Return the info of the next frame, passing over texts."""
        while True:
            message = self.socket.receive()
            if message.get("bytes"):
                self.socket.send_json({"type": "ack"})
                return header(message["bytes"])

    def text(self) -> dict:
        """Return the next text, passing over frames."""
        while True:
            message = self.socket.receive()
            if message["type"] == "websocket.close":
                raise WebSocketDisconnect(message["code"])
            if message.get("text"):
                return json.loads(message["text"])
            self.socket.send_json({"type": "ack"})


def test_the_page_and_its_modules_have_security_headers(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200 and "Mario Dreamer" in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "://" not in page.text  # nothing comes from elsewhere
    for name in ("main.js", "lane.js", "charts.js", "connection.js", "keys.js"):
        served = client.get(f"/{name}")
        assert served.status_code == 200 and "javascript" in served.headers["content-type"]
    assert client.get("/style.css").status_code == 200
    assert client.get("/../server.py").status_code == 404
    assert client.get("/nowhere").status_code == 404


def test_a_page_gets_a_list_of_agents_and_then_frames(client: TestClient) -> None:
    with client.websocket_connect("/live") as socket:
        visitor = Visitor(socket)
        assert visitor.hello["actions"] == ["noop", "left", "right"]
        assert visitor.hello["name"] == "tiny, 7 steps" and visitor.hello["stages"] == []
        socket.send_json({"type": "rate", "value": 100})
        times = [visitor.frame()["time"] for _ in range(4)]
        assert times == [0, 1, 2, 3]


def test_a_page_that_does_not_keep_up_is_waited_for(client: TestClient) -> None:
    with client.websocket_connect("/live") as socket:
        visitor = Visitor(socket)
        socket.send_json({"type": "rate", "value": 100})
        time.sleep(0.4)
        for _ in range(AHEAD):
            socket.receive_bytes()
        socket.send_text("nonsense")  # answered at once: no frame stands before the answer
        assert "not JSON" in socket.receive_json()["text"]
        socket.send_json({"type": "ack"})
        assert header(socket.receive_bytes())["time"] == AHEAD
        assert visitor.hello


NONSENSE = [
    ("hello?", "not understood: that message is not JSON"),
    ('{"type": "fly"}', "no command 'fly'"),
    ("x" * 100_000, "a message of 100000 characters; at most 4096"),
    ('{"type": "agent", "id": "../../etc/passwd"}', "no agent '../../etc/passwd'"),
    ('{"type": "restart", "stage": "1-1"}', "no stages; got stage '1-1'"),
    ('{"type": "again"}', "enter one first"),
    (b"\x00\x01", "not understood"),
]


def test_nonsense_gets_one_answer_and_the_play_goes_on(client: TestClient) -> None:
    with client.websocket_connect("/live") as socket:
        visitor = Visitor(socket)
        socket.send_json({"type": "rate", "value": 100})
        for sent, said in NONSENSE:
            (socket.send_bytes if isinstance(sent, bytes) else socket.send_text)(sent)
            answer = visitor.text()
            assert answer["type"] == "error" and said in answer["text"]
            assert visitor.frame()["type"] == "frame"


def test_one_page_too_many_is_refused_and_may_come_back(client: TestClient) -> None:
    with client.websocket_connect("/live") as one, client.websocket_connect("/live") as two:
        Visitor(one), Visitor(two)
        with client.websocket_connect("/live") as three:
            answer = three.receive_json()
            assert answer["final"] and "2 pages are being served already" in answer["text"]
            with pytest.raises(WebSocketDisconnect) as closed:
                three.receive_json()
            assert closed.value.code == FULL
    with client.websocket_connect("/live") as later:
        assert Visitor(later).hello["type"] == "hello"


def test_two_pages_have_simulations_of_their_own(client: TestClient) -> None:
    with client.websocket_connect("/live") as one, client.websocket_connect("/live") as two:
        first, second = Visitor(one), Visitor(two)
        one.send_json({"type": "pause", "on": True})
        two.send_json({"type": "rate", "value": 100})
        first.frame()
        assert max(second.frame()["time"] for _ in range(6)) >= 3
        one.send_json({"type": "step"})
        assert first.frame()["time"] <= 2


def test_an_env_that_raises_ends_its_page_in_one_line(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise OSError("the emulator broke")

    with monkeypatch.context() as patch, client.websocket_connect("/live") as socket:
        patch.setattr(LiveEnv, "step", broken)
        said = Visitor(socket).text()
    assert said == {
        "type": "error", "text": "the simulation stopped: the emulator broke", "final": True,
    }  # fmt: skip
    record = next(each for each in caplog.records if "the emulator broke" in each.message)
    assert not record.exc_info, "a traceback"
    with client.websocket_connect("/live") as socket:
        assert Visitor(socket).frame(), "the server goes on"


def test_closing_the_page_ends_its_work(client: TestClient) -> None:
    before = threading.active_count()
    with client.websocket_connect("/live") as socket:
        Visitor(socket).frame()
        assert client.app.app.state.open == 1
    for _ in range(100):
        if client.app.app.state.open == 0:
            break
        time.sleep(0.02)
    assert client.app.app.state.open == 0
    assert threading.active_count() <= before + 2


def test_a_page_can_dream_step_by_step_and_change_the_agent(client: TestClient) -> None:
    with client.websocket_connect("/live") as socket:
        visitor = Visitor(socket)
        visitor.frame()
        socket.send_json({"type": "pause", "on": True})
        socket.send_json({"type": "dream", "on": True})
        socket.send_json({"type": "keys", "held": ["right"]})
        socket.send_json({"type": "step"})
        frames = [visitor.frame()]
        while frames[-1]["mode"] != "dream" or frames[-1]["open_loop_steps"] != 1:
            frames.append(visitor.frame())
        assert frames[-1]["action"] == [0.0, 0.0, 1.0]
        socket.send_json({"type": "agent", "id": "run:wide"})
        loading = visitor.text()  # "wide, 7 steps" where another test has loaded it
        assert loading["type"] == "loading" and loading["what"].startswith("wide")
        hello = visitor.text()
        assert hello["agent"] == "run:wide" and hello["name"] == "wide, 7 steps"
        assert visitor.frame()["time"] == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "[::1"}, 400),
        ({"host": "127.0.0.1:port"}, 400),
        ({"host": "127.0.0.1:99999"}, 400),
        ({"host": "a@127.0.0.1"}, 400),
        ({"origin": "http://[zz]"}, 400),
    ],
)
def test_foreign_callers_get_403_and_malformed_ones_400(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.get("/", headers=headers).status_code == status
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect("/live", headers=headers),
    ):
        pass
    assert refused.value.status_code == status


def test_a_server_on_all_interfaces_refuses_foreign_names() -> None:
    check = host_check("0.0.0.0")
    own = ["localhost", "192.168.1.7", "fe80::1", gethostname().lower()]
    assert all(map(check, own))
    assert not check("evil.example") and not check("127.0.0.1.evil.example")
    assert not host_check("127.0.0.1")("192.168.1.7")


def test_a_connection_without_a_whole_request_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PATIENCE", 0.3)
    listener = bind("127.0.0.1", 0)
    config = uvicorn.Config(lambda *_: None, http=serving.ImpatientProtocol, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        for part in (b"", b"GET / HTTP/1.1\r\nHost: "):
            with socket.create_connection(listener.getsockname(), timeout=5) as half_open:
                half_open.sendall(part)
                assert half_open.recv(1) == b""  # the server has closed it
    finally:
        server.should_exit = True
        thread.join(5)


def test_our_own_page_may_connect_with_its_origin(client: TestClient) -> None:
    headers = {"host": "127.0.0.1:8700", "origin": "http://127.0.0.1:8700"}
    with client.websocket_connect("/live", headers=headers) as socket:
        assert Visitor(socket).hello["type"] == "hello"
