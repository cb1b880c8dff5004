"""HTTP/1.1 with bounds: uvicorn's httptools protocol, for ports that strangers can reach.

uvicorn bounds neither the size of a head nor how long a head or a body takes, nor how many
requests wait behind one another on a connection. Here each of these ends: a head larger than
64 KiB with 431, a request that does not arrive with 408, a connection that does nothing or takes
no answers by being closed. `uvicorn --http config.protocol:BoundedProtocol`.

Nothing here costs a request more than a comparison: one look a second at all connections stands
for timers of each of them.
"""

from __future__ import annotations

import asyncio
import json
import resource
import weakref
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import quote

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from accounts.domain.problem_types import PROBLEM_TYPES
from config import environment as env
from metering.gate.request_ids import NAME, RequestIds

HEAD_BYTES = 64 * 1024
# A gateway that sends into a connection as it is closed has an error instead of an answer, so that
# gateways are to close theirs first: nginx after 60 seconds. uvicorn alone closes after 5.
KEEP_ALIVE_S = 75
PATIENCE_S = 10  # for a head; for a body, and a second more for each BODY_RATE that arrived
BODY_RATE = 16 * 1024
UNREAD_S = 30  # how long answers may wait for a client that does not take them
PIPELINED = 512  # requests that may wait behind one another; what is beyond is not answered
CONNECTIONS = 16_384
_INTERIM = b"HTTP/1.1 100"
_SPARE_FILES = 64  # for the database, logs and the like
_LOOK_S = 1.0
_PATH_SHOWN = 1_000  # bytes of a path that a problem says again
_ids = RequestIds()


class _Refused(Exception):
    """The request will not be answered as it is; ends the parsing of the connection."""


class _Flow(FlowControl):
    """Reads on only when nothing waits behind the request in hand: backpressure for pipelining."""

    def __init__(self, transport: asyncio.Transport, pipeline: Any) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()


class _Answers:
    """Where a connection's answers are written: a head waits for what comes after it.

    ASGI has servers wait so (HTTP & WebSocket message format, "Response Start"). One packet where
    it was two spares a system call, and the client is woken once.
    """

    __slots__ = ("_begun", "_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self._begun = False  # an answer's head was written

    def write(self, data: bytes) -> None:
        """Write a head, or what follows it; an interim answer goes at once."""
        if self._begun:
            if self._head:
                data, self._head = self._head + data, b""
            self._transport.write(data)
        elif data.startswith(_INTERIM):
            self._transport.write(data)
        else:
            self._head, self._begun = data, True

    def end(self) -> None:
        """The answer is complete: what comes next is another one's head."""
        self._begun = False
        if self._head:  # it has no body
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """End the connection behind what was written."""
        self.end()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is ended or about to."""
        return self._transport.is_closing()


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.timeout_keep_alive = max(self.timeout_keep_alive, KEEP_ALIVE_S)
        self._idle = True  # between two requests
        self._in_head = False
        self._fresh = 0  # requests that began in the chunk in hand
        self._got = 0  # bytes of the request in hand, in whole chunks
        self._body_at = 0  # `_got` when a part of its body came last
        self._doubt = 0  # bytes of a chunk of which some are this request's, nobody knows how many
        self._looks = 0  # at a request that does not arrive, or at a connection without one
        self._unread = 0  # looks at answers that the client does not take
        self._refusal = "body_malformed"

    # --- what the transport says ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._answers = _Answers(transport)
        if len(self.connections) > _most_connections():
            _make_room(self)
        _Watch.over(self)

    def data_received(self, data: bytes) -> None:
        size = len(data)
        was_idle = self._idle
        self._fresh = 0
        if was_idle:
            self._got, self._doubt, self._body_at = size, 0, 0
        else:
            self._got += size
        super().data_received(data)
        if self._fresh > was_idle:  # another request began somewhere in this chunk
            self._got, self._doubt, self._body_at = 0, size, 0
        # Beside a head, only trailers and the sizes of chunks can be that long.
        lengthy = self._got - (0 if self._in_head else self._body_at) > HEAD_BYTES
        if lengthy and not self._idle and not self.transport.is_closing():
            self._refuse("head_too_large")

    # --- what the parser says ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._idle = False
        self._in_head = True
        self._fresh += 1
        self._looks = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers say nothing that anybody asked for
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._body_at = self._got
        super().on_body(body)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._got + self._doubt > HEAD_BYTES and _size(self.url, self.headers) > HEAD_BYTES:
            self._refusal = "head_too_large"
            raise _Refused
        if len(self.pipeline) >= PIPELINED:
            self._refusal = "overloaded"
            raise _Refused
        self.begin()

    def on_message_complete(self) -> None:
        self._idle = True
        self._looks = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._answers.end()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (what the parser says of it)
        """What cannot be parsed, or must not be, ends the connection."""
        self._refuse(self._refusal)

    def begin(self) -> None:
        """Hand the request to the application: its head is there."""
        super().on_headers_complete()
        if (cycle := self._last) is not None:
            cycle.transport = cast("asyncio.Transport", self._answers)

    # --- once a second -------------------------------------------------------------------------

    def look(self) -> None:
        """End what takes too long: a request on its way here, or an answer on its way there."""
        closing = self.transport.is_closing()
        if closing or self.flow.write_paused:
            self._unread += 1
            if self._unread > (PATIENCE_S if closing else UNREAD_S):
                self.transport.abort()
            return
        self._unread = 0
        if self.flow.read_paused:
            return  # it is us who do not read
        if not self._idle:
            self._looks += 1
            if self._looks > PATIENCE_S + (0 if self._in_head else self._got // BODY_RATE):
                self._refuse("request_timeout")
        elif self.waits_for_client and self.timeout_keep_alive_task is None:
            self._looks += 1
            if self._looks > PATIENCE_S:
                self.transport.close()

    @property
    def waits_for_client(self) -> bool:
        """Whether nothing is asked: no request, or the last one is answered."""
        cycle = self._last
        return cycle is None or cycle.response_complete

    @property
    def slowness(self) -> tuple[bool, int]:
        """How little is lost if this connection ends: the most is the least."""
        return self.waits_for_client or not self._idle, self._looks

    @property
    def _last(self) -> RequestResponseCycle | None:
        return cast("RequestResponseCycle | None", self.cycle)  # None before the first request

    def _refuse(self, code: str) -> None:
        """Answer a problem and end; where earlier requests wait for answers, end after those."""
        cycle, answer = self._last, self._answer(code)
        self._idle, self._in_head = True, False
        if self.transport.is_closing():
            return
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False  # an answer of ours now would be taken for its answer
                self.flow.pause_reading()
                return
            # It is this very request whose body does not come: its application hears no more.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.abort()
                return
        self.transport.write(answer)
        self.transport.close()

    def _answer(self, code: str) -> bytes:
        """A problem with the request in hand, or with what is none, as bytes of HTTP."""
        if self._idle:
            return _answer(code, headers=(), target=b"")
        knows_target = bool(self.headers) or not self._in_head  # else it may go on
        return _answer(code, headers=self.headers, target=self.url if knows_target else b"")


class _Watch:
    """Looks at the connections of a server once a second, while there are any."""

    _watched: weakref.WeakSet[ServerState] = weakref.WeakSet()

    @classmethod
    def over(cls, one: BoundedProtocol) -> None:
        """Have a connection, and all others of its server, looked at."""
        if one.server_state not in cls._watched:
            cls._watched.add(one.server_state)
            one.loop.call_later(_LOOK_S, cls._look, one.loop, one.server_state)

    @classmethod
    def _look(cls, loop: asyncio.AbstractEventLoop, server: ServerState) -> None:
        for each in tuple(server.connections):
            cast("BoundedProtocol", each).look()
        if server.connections:
            loop.call_later(_LOOK_S, cls._look, loop, server)
        else:
            cls._watched.discard(server)


def _make_room(newest: BoundedProtocol) -> None:
    """End the connection that matters least; the new one itself where all others are at work.

    Connections that were ended in this very turn of the loop are still listed, and do not count.
    """
    others = [
        each
        for each in newest.connections
        if each is not newest and not cast("BoundedProtocol", each).transport.is_closing()
    ]
    ended = max(others, key=lambda each: cast("BoundedProtocol", each).slowness, default=newest)
    if not cast("BoundedProtocol", ended).slowness[0]:
        ended = newest
    ended.transport.abort()


def _most_connections() -> int:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return CONNECTIONS
    return max(min(CONNECTIONS, allowed - _SPARE_FILES), 1)


def _size(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)


def _answer(code: str, *, headers: Sequence[tuple[bytes, bytes]], target: bytes) -> bytes:
    """A problem as bytes of HTTP, the last of a connection."""
    kind = PROBLEM_TYPES[code]
    base = env.BASE_URL.read().rstrip("/")
    problem = {
        "type": f"{base}/docs/problems/{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.when,
        "code": code,
    }
    path = target.partition(b"?")[0]
    if path.startswith(b"/") and len(path) <= _PATH_SHOWN:
        problem["instance"] = quote(path, safe="/:@!$&()*+,;=%")
    body = json.dumps(problem).encode()
    head = b"content-type: application/problem+json\r\nconnection: close\r\n"
    head += b"%s: %s\r\n" % (NAME, _ids.of(dict(headers)))
    if kind.status == 503:
        head += b"retry-after: 1\r\n"
    return b"%s%scontent-length: %d\r\n\r\n%s" % (STATUS_LINE[kind.status], head, len(body), body)
