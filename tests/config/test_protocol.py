"""Clients that misbehave, by raw sockets, against a server with the bounded protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from config import protocol

MUCH = 20_000_000  # more than what the two sides' kernels keep
LOOK_S = 0.02  # so that what takes ten seconds elsewhere takes 0.2 here


@dataclass
class Served:
    """A server whose application says how much body it was sent; /wait until it is let go."""

    port: int
    server: uvicorn.Server
    go: asyncio.Event
    loop: asyncio.AbstractEventLoop
    asked: int = 0

    @contextlib.contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """A bare connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
            yield client

    def polite(self) -> None:
        """A caller that does as it should is answered."""
        with self.connected() as client:
            client.sendall(request(b"hello"))
            assert answer(client) == (200, b"5")

    def connections(self) -> set[Any]:
        """What the server serves now."""
        return set(self.server.server_state.connections)

    def let_go(self) -> None:
        """Have the waiting requests answered."""
        self.loop.call_soon_threadsafe(self.go.set)


def request(body: bytes = b"", *, path: bytes = b"/", more: bytes = b"", length: int = -1) -> bytes:
    """A whole request, or one whose body falls short of `length`."""
    said = len(body) if length < 0 else length
    return b"POST %s HTTP/1.1\r\nhost: x\r\n%scontent-length: %d\r\n\r\n%s" % (
        path, more, said, body,
    )  # fmt: skip


def answer(client: socket.socket) -> tuple[int, bytes]:
    """Status and body of the next answer; (0, what came) where the connection ended instead."""
    head, body = whole(client)
    return (int(head.split()[1]), body) if head else (0, body)


def whole(client: socket.socket) -> tuple[str, bytes]:
    """Head and body of the next answer; ("", what came) where the connection ended instead."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = b""
        with contextlib.suppress(ConnectionResetError):
            byte = client.recv(1)
        if not byte:
            return "", head
        head += byte
    (length,) = re.findall(rb"(?i)content-length: (\d+)\r\n", head)
    body = b""
    while len(body) < int(length):
        body += client.recv(int(length) - len(body))
    return head.decode(), body


def sent_until_answered(client: socket.socket, part: bytes, *, times: int) -> int:
    """How often a part could be sent before the server spoke up or ended the connection."""
    client.settimeout(LOOK_S)
    for sent in range(times):
        try:
            client.sendall(part)
            client.recv(1)
        except TimeoutError:
            continue
        except ConnectionError:
            pass
        return sent
    return times


def problem(
    client: socket.socket, *, about: str | None = None, request_id: str = "req_[0-9a-f]{32}"
) -> tuple[int, str]:
    """Status and code of the next answer, which is the last of its connection."""
    head, body = whole(client)
    assert answer(client) == (0, b"")
    told = json.loads(body)
    assert told.get("instance") == about
    assert re.search(rf"\r\nx-request-id: {request_id}\r\n", head)
    return int(head.split()[1]), told["code"]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server in a thread of its own."""
    monkeypatch.setattr(protocol, "_LOOK_S", LOOK_S)
    listening = socket.create_server(("127.0.0.1", 0))
    ready = threading.Event()
    made: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        made["served"].asked += 1
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        if scope["path"] == "/wait":
            await made["served"].go.wait()
        if scope["path"] == "/parts":
            length = [(b"content-length", b"6")]
            await send({"type": "http.response.start", "status": 200, "headers": length})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            await made["served"].go.wait()
            await send({"type": "http.response.body", "body": b"two"})
            return
        said = b"x" * MUCH if scope["path"] == "/much" else b"%d" % size
        head = [(b"content-length", b"%d" % len(said))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": said})

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=protocol.BoundedProtocol,
            loop="uvloop",
            lifespan="off",
            log_level="critical",
            timeout_graceful_shutdown=1,
        )
    )

    async def serve() -> None:
        loop, port = asyncio.get_running_loop(), listening.getsockname()[1]
        made["served"] = Served(port, server, asyncio.Event(), loop)
        ready.set()
        await server._serve([listening])

    import uvloop

    thread = threading.Thread(target=lambda: uvloop.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(20)
    yield made["served"]
    made["served"].let_go()
    server.should_exit = True
    thread.join(20)
    listening.close()


def test_a_head_of_64_kib_is_taken(served: Served) -> None:
    with served.connected() as client:
        client.sendall(request(b"hello", more=b"x-pad: %s\r\n" % (b"y" * 65_000)))
        assert answer(client) == (200, b"5")
        client.sendall(request(b"again"))
        assert answer(client) == (200, b"5")


def test_a_connection_outlives_the_gateways_own_patience(served: Served) -> None:
    with served.connected() as client:
        client.sendall(request(b"hello"))
        assert answer(client) == (200, b"5")
        (one,) = served.connections()
        served.polite()  # by then the server is done with the answer before
        assert one.timeout_keep_alive_task.when() - served.loop.time() > 60


@pytest.mark.parametrize("size", [66_000, 1_000_000])
def test_a_larger_head_is_431(served: Served, size: int) -> None:
    with served.connected() as client, contextlib.suppress(ConnectionError):
        client.sendall(request(path=b"/x?y", more=b"x-pad: %s\r\n" % (b"y" * size)))
        assert problem(client, about="/x") == (431, "head_too_large")
    assert served.asked == 0
    served.polite()


def test_a_head_without_end_is_431(served: Served) -> None:
    with served.connected() as client:
        client.sendall(b"POST / HTTP/1.1\r\nx-pad: ")
        assert sent_until_answered(client, b"y" * 10_000, times=1_000) < 1_000
    assert served.asked == 0
    served.polite()


def test_a_large_head_behind_a_request_that_waits_is_not_answered_in_its_place(
    served: Served,
) -> None:
    with served.connected() as client:
        large = request(more=b"x-pad: %s\r\n" % (b"y" * 70_000))
        client.sendall(request(path=b"/wait") + large)
        served.polite()
        served.let_go()
        assert answer(client) == (200, b"0")
        assert answer(client) == (0, b"")


def test_a_head_that_does_not_come_is_408(served: Served) -> None:
    with served.connected() as client:
        client.sendall(request()[:-9])
        served.polite()
        assert problem(client, about="/") == (408, "request_timeout")
    assert served.asked == 1  # the polite one


def test_a_body_that_does_not_come_is_408(served: Served) -> None:
    with served.connected() as client:
        more = b"X-Request-Id: mine-7\r\n"
        client.sendall(request(b"{", length=5_000, path=b"/v1/%22", more=more))
        served.polite()
        assert problem(client, about="/v1/%22", request_id="mine-7") == (408, "request_timeout")


def test_a_body_that_drips_is_408(served: Served) -> None:
    with served.connected() as client:
        client.sendall(request(b"{", length=100_000_000))
        assert sent_until_answered(client, b"x", times=100_000) < 100_000


def test_a_body_that_comes_steadily_may_take_longer(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "BODY_RATE", 1_000)
    whole = 40_000
    with served.connected() as client:
        client.sendall(request(length=whole))
        # Longer than a head may take, told by what the server does with one that began now.
        with served.connected() as slow:
            slow.sendall(b"POST / HT")
            sent, slow_ended = 0, False
            slow.settimeout(LOOK_S)
            while sent < whole:
                client.sendall(b"x" * 1_000)
                sent += 1_000
                with contextlib.suppress(TimeoutError):
                    slow_ended = slow_ended or bool(slow.recv(1))
            assert slow_ended
        assert answer(client) == (200, b"40000")


def test_a_connection_that_asks_nothing_is_closed(served: Served) -> None:
    with served.connected() as silent, served.connected() as newlines:
        newlines.sendall(request())
        assert answer(newlines) == (200, b"0")
        newlines.sendall(b"\r\n\r\n")
        served.polite()
        assert answer(silent) == (0, b"")
        assert answer(newlines) == (0, b"")


def test_a_client_that_takes_no_answers_is_let_go(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "UNREAD_S", 3)
    with served.connected() as client:
        client.sendall(request(path=b"/much") * 5)
        served.polite()
        (clogged,) = (each for each in served.connections() if each.flow.write_paused)
        while clogged in served.connections():
            served.polite()
        with contextlib.suppress(ConnectionError):
            assert len(client.makefile("rb").read()) < 5 * MUCH


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    with served.connected() as client:
        pad = b"x-pad: %s\r\n" % (b"y" * 1_000)
        sent = b"".join(request(b"x" * (n % 50), more=pad) for n in range(2_000))
        sending = threading.Thread(target=client.sendall, args=[sent])
        sending.start()
        answers = [answer(client) for _ in range(2_000)]
        sending.join(20)
    assert answers == [(200, b"%d" % (n % 50)) for n in range(2_000)]


def test_an_answer_leaves_in_one_piece() -> None:
    class Transport:
        def __init__(self) -> None:
            self.sent: list[bytes] = []

        def write(self, data: bytes) -> None:
            self.sent.append(data)

    transport = Transport()
    answers = protocol._Answers(transport)  # type: ignore[arg-type]
    for body in (b"first", b"second"):
        answers.write(b"HTTP/1.1 200 OK\r\n\r\n")
        answers.write(body)
        answers.end()
    assert transport.sent == [b"HTTP/1.1 200 OK\r\n\r\n" + body for body in (b"first", b"second")]


def test_an_answer_in_parts_is_not_held_back(served: Served) -> None:
    with served.connected() as client:
        client.sendall(request(path=b"/parts"))
        came = b""
        while not came.endswith(b"\r\n\r\none"):
            came += client.recv(100)
        served.let_go()
        assert client.recv(100) == b"two"


def test_an_answer_without_a_body_is_its_head_alone(served: Served) -> None:
    with served.connected() as client:
        client.sendall(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n" + request(b"hello"))
        came = b""
        while not came.endswith(b"\r\n\r\n"):
            came += client.recv(1)
        assert b"content-length: 1\r\n" in came
        assert answer(client) == (200, b"5")


def test_who_asks_whether_to_go_on_is_told_before_the_answer(served: Served) -> None:
    with served.connected() as client:
        client.sendall(request(more=b"expect: 100-continue\r\n", length=5))
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        assert answer(client) == (200, b"5")


def test_a_flood_of_pipelined_requests_is_bounded(served: Served) -> None:
    with served.connected() as client:
        client.sendall(request(path=b"/wait") + b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 2_000)
        served.polite()
        (waiting,) = (each for each in served.connections() if each.pipeline)
        assert len(waiting.pipeline) == protocol.PIPELINED
        served.let_go()
        for _ in range(1 + protocol.PIPELINED):
            assert answer(client)[0] == 200
        assert answer(client) == (0, b"")


@pytest.mark.parametrize(
    "rubbish", [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9\r\n\r\n", b"?\r\n"]
)
def test_what_is_no_http_is_400(served: Served, rubbish: bytes) -> None:
    with served.connected() as client:
        client.sendall(rubbish)
        assert problem(client) == (400, "body_malformed")
    served.polite()


def test_what_is_no_http_behind_a_request_is_about_nothing_of_it(served: Served) -> None:
    with served.connected() as client, served.connected() as lengthy:
        client.sendall(request(path=b"/before", more=b"x-request-id: before\r\n"))
        assert answer(client) == (200, b"0")
        client.sendall(b"?\r\n")
        assert problem(client) == (400, "body_malformed")
        lengthy.sendall(request(path=b"/" + b"x" * 5_000, length=3))
        assert problem(lengthy)[0] == 408  # a path as long as that is not said again


def test_too_many_connections_end_the_slowest(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "PATIENCE_S", 10_000)
    monkeypatch.setattr(protocol, "CONNECTIONS", 20)
    with contextlib.ExitStack() as opened:
        working = opened.enter_context(served.connected())
        working.sendall(request(path=b"/wait"))
        silent = [opened.enter_context(served.connected()) for _ in range(60)]
        for each in silent:
            with contextlib.suppress(ConnectionError):
                each.sendall(b"POST / HT")
        served.polite()
        assert len(served.connections()) <= 20
        served.let_go()
        assert answer(working) == (200, b"0")


def test_trailers_are_bounded_and_say_nothing(served: Served) -> None:
    chunked = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    with served.connected() as client:
        client.sendall(chunked + b"3\r\nabc\r\n0\r\nauthorization: Bearer x\r\n\r\n")
        assert answer(client) == (200, b"3")
    with served.connected() as client:
        client.sendall(chunked + b"3\r\nabc\r\n0\r\n")
        assert sent_until_answered(client, b"x-more: %s\r\n" % (b"y" * 10_000), times=1_000) < 1_000
    served.polite()
