"""A toy API behind a gateway: it keeps what it was sent, and streams when it is told to go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHUNKS = (b"data: one\n\n", b"data: two\n\n", b"data: three\n\n")


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: Message
    body: bytes


@dataclass(slots=True)
class Upstream:
    """What arrived so far; `more` is released once for every chunk that a stream may send."""

    port: int
    seen: list[Seen] = field(default_factory=list)
    more: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = Upstream(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.upstream.seen.append(Seen(self.command, self.path, self.headers, body))
        if self.path == "/v1/stream":
            self.stream()
        elif self.path == "/v1/fails":
            self.whole(500, b"the API's own fault")
        else:
            self.whole(200, b"served")

    do_GET = do_POST = answer  # noqa: N815  (as inherited)

    def whole(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in CHUNKS:
            if not self.server.upstream.more.acquire(timeout=30):
                return
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (as inherited)
        pass


@contextmanager
def serving() -> Iterator[Upstream]:
    """An upstream on a port of its own. /v1/fails answers 500, /v1/stream a stream, others 200."""
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.upstream
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
