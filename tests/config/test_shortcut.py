"""The short way of small requests, by raw sockets: taken whole, or left as if nothing was tried."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import uvicorn

from config import protocol
from config.shortcut import KEPT_BYTES, STATE, Reply, ShortcutProtocol
from tests.config.test_protocol import answer, problem, request

LOOK_S = 0.02


@dataclass
class Taker:
    """Takes what is posted to /short…; /short/later waits until it is let go."""

    port: int
    server: uvicorn.Server
    loop: asyncio.AbstractEventLoop
    taken: list[tuple[bytes, bytes]] = field(default_factory=list)
    usual: list[tuple[str, bytes]] = field(default_factory=list)
    waiting: list[Reply] = field(default_factory=list)

    def wants(self, _method: bytes, target: bytes, _headers: Sequence[tuple[bytes, bytes]]) -> bool:
        return target.startswith(b"/short")

    def take(
        self,
        _method: bytes,
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        reply: Reply,
    ) -> bool:
        if target == b"/short/no":
            return False
        self.taken.append((target, body))
        if target == b"/short/fault":
            raise RuntimeError("a fault of the application")
        if target == b"/short/later":
            self.waiting.append(reply)
        elif target == b"/short/torn":
            with pytest.raises(ValueError, match="control character"):
                reply(200, [(b"x-torn", b"a\r\nb: c")], b"")
            reply(500, [], b"torn")
            reply(200, [], b"of the next request, a client would think")
        else:
            kept = [each for each in headers if each[0] == b"x-mine"]
            reply(200, kept, b"%d" % len(body))
        return True

    @contextlib.contextmanager
    def connected(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
            yield client

    def until(self, there: Callable[[], Any]) -> None:
        """Return when something is so, as this process sees it."""
        deadline = time.monotonic() + 20
        while not there():
            assert time.monotonic() < deadline
            time.sleep(0.005)  # between two looks at what another thread does

    def let_go(self, said: bytes = b"later") -> None:
        reply = self.waiting.pop(0)
        self.loop.call_soon_threadsafe(reply, 200, [], said)


@contextlib.contextmanager
def serving(**more: Any) -> Iterator[Taker]:
    """A server in a thread of its own, whose application says how much body it was sent."""
    listening = socket.create_server(("127.0.0.1", 0))
    ready = threading.Event()
    made: dict[str, Taker] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"][STATE] = made["taker"]
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body, goes_on = b"", True
        while goes_on:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            goes_on = message["more_body"]
        made["taker"].usual.append((scope["path"], body))
        said = b"usual %d" % len(body)
        head = [(b"content-length", b"%d" % len(said))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": said})

    given: dict[str, Any] = {"log_level": "critical", "access_log": False} | more
    config = uvicorn.Config(
        app, http=ShortcutProtocol, loop="uvloop", timeout_graceful_shutdown=5, **given
    )
    server = uvicorn.Server(config)

    async def serve() -> None:
        port = listening.getsockname()[1]
        made["taker"] = Taker(port, server, asyncio.get_running_loop())
        ready.set()
        await server._serve([listening])

    thread = threading.Thread(target=lambda: uvicorn._compat.asyncio_run(serve()), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield made["taker"]
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
    assert not thread.is_alive()


@pytest.fixture
def taker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Taker]:
    monkeypatch.setattr(protocol, "_LOOK_S", LOOK_S)
    with serving() as found:
        yield found


def test_a_small_request_is_taken_and_the_connection_goes_on(taker: Taker) -> None:
    with taker.connected() as client:
        for size in (3, 0, 5):
            client.sendall(request(b"x" * size, path=b"/short", more=b"X-Mine: 1\r\n"))
            assert answer(client) == (200, b"%d" % size)
        client.sendall(request(b"abc", path=b"/other"))
        assert answer(client) == (200, b"usual 3")
        client.sendall(request(b"abcd", path=b"/short"))
        assert answer(client) == (200, b"4")

    assert [size for _, size in taker.taken] == [b"xxx", b"", b"xxxxx", b"abcd"]
    assert taker.usual == [("/other", b"abc")]


def test_a_request_that_comes_in_pieces_is_taken_whole(taker: Taker) -> None:
    with taker.connected() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request(b"in pieces", path=b"/short"):
            client.sendall(bytes([byte]))
        assert answer(client) == (200, b"9")

    assert taker.taken == [(b"/short", b"in pieces")]


def test_what_is_not_taken_goes_the_usual_way_with_all_that_was_sent(taker: Taker) -> None:
    with taker.connected() as client:
        client.sendall(request(b"hello", path=b"/short/no"))
        assert answer(client) == (200, b"usual 5")
        client.sendall(request(path=b"/short/no"))
        assert answer(client) == (200, b"usual 0")

    assert taker.taken == []
    assert taker.usual == [("/short/no", b"hello"), ("/short/no", b"")]


@pytest.mark.parametrize("parts", [1, 3])
def test_a_large_body_goes_the_usual_way(taker: Taker, parts: int) -> None:
    body = b"y" * (KEPT_BYTES + 1)
    sent = request(body, path=b"/short")
    size = -(-len(sent) // parts)
    with taker.connected() as client:
        for start in range(0, len(sent), size):
            client.sendall(sent[start : start + size])
        assert answer(client) == (200, b"usual %d" % len(body))

    assert taker.usual == [("/short", body)]


@pytest.mark.parametrize(
    "sent",
    [
        request(b"hi", path=b"/short", more=b"connection: close\r\n"),
        b"POST /short HTTP/1.0\r\ncontent-length: 2\r\n\r\nhi",
        request(b"hi", path=b"/short", more=b"connection: upgrade\r\nupgrade: h2c\r\n"),
    ],
    ids=["close", "HTTP/1.0", "upgrade"],
)
def test_what_ends_the_connection_or_changes_it_goes_the_usual_way(
    taker: Taker, sent: bytes
) -> None:
    with taker.connected() as client:
        client.sendall(sent)
        assert answer(client)[0] == 200

    assert taker.taken == []


def test_who_waits_to_be_told_to_send_is_told(taker: Taker) -> None:
    with taker.connected() as client:
        client.sendall(request(path=b"/short", more=b"expect: 100-continue\r\n", length=5))
        assert client.recv(len(b"HTTP/1.1 100 Continue\r\n\r\n")).startswith(b"HTTP/1.1 100")
        client.sendall(b"12345")
        assert answer(client) == (200, b"usual 5")


def test_pipelined_requests_are_answered_in_their_order(taker: Taker) -> None:
    with taker.connected() as client:
        client.sendall(
            request(path=b"/short/later") + request(b"a", path=b"/short") + request(b"ab")
        )
        taker.until(lambda: taker.waiting)
        taker.let_go()
        assert [answer(client) for _ in range(3)] == [
            (200, b"later"), (200, b"usual 1"), (200, b"usual 2"),
        ]  # fmt: skip
        client.sendall(request(b"abc", path=b"/short"))
        assert answer(client) == (200, b"3")


def test_a_client_that_goes_away_takes_nobody_with_it(taker: Taker) -> None:
    with taker.connected() as client:
        client.sendall(request(path=b"/short/later"))
        taker.until(lambda: taker.waiting)
    taker.until(lambda: not taker.server.server_state.connections)
    taker.let_go()
    with taker.connected() as client:
        client.sendall(request(b"abc", path=b"/short"))
        assert answer(client) == (200, b"3")


def test_a_header_that_would_end_early_is_refused_and_a_request_has_one_answer(
    taker: Taker,
) -> None:
    with taker.connected() as client:
        client.sendall(request(path=b"/short/torn"))
        assert answer(client) == (500, b"torn")
        client.sendall(request(b"abc", path=b"/short"))
        assert answer(client) == (200, b"3")


def test_a_fault_in_taking_is_answered_and_the_connection_goes_on(taker: Taker) -> None:
    with taker.connected() as client:
        client.sendall(request(b"abc", path=b"/short/fault"))
        assert answer(client) == (200, b"usual 3")
        client.sendall(request(b"abc", path=b"/short"))
        assert answer(client) == (200, b"3")


def test_a_body_that_does_not_come_is_refused(taker: Taker) -> None:
    with taker.connected() as client:
        client.sendall(request(b"par", path=b"/short", length=10))
        assert problem(client, about="/short") == (408, "request_timeout")

    assert taker.taken == []


def test_a_server_that_ends_answers_what_it_has_taken_and_what_is_on_its_way() -> None:
    with serving() as taker, taker.connected() as taken, taker.connected() as half:
        taken.sendall(request(path=b"/short/later"))
        half.sendall(request(b"ha", path=b"/short", length=4))
        taker.until(lambda: taker.waiting)
        open_now = taker.server.server_state.connections
        taker.until(lambda: any(cast("Any", each)._kept == b"ha" for each in open_now))
        taker.server.should_exit = True
        taker.until(lambda: taker.usual or not taker.server.servers[0].is_serving())
        half.sendall(b"lf")
        assert answer(half) == (200, b"usual 4")
        taker.let_go()
        assert answer(taken) == (200, b"later")
        assert taken.recv(1) == b""


@pytest.mark.parametrize(
    "more",
    [{"root_path": "/under"}, {"limit_concurrency": 100}, {"access_log": True}],
    ids=lambda more: next(iter(more)),
)
def test_what_only_the_usual_way_does_is_done(more: dict[str, Any]) -> None:
    with serving(**more) as taker, taker.connected() as client:
        client.sendall(request(b"abc", path=b"/short"))
        assert answer(client) == (200, b"usual 3")

    assert taker.taken == []
