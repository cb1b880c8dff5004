"""The bounded protocol with a short way for small requests: no task, no ASGI messages.

Of what a small call costs, a third was what ASGI needs for a request (decision 0018). An
application that can do without offers a `Shortcut` in the state of its lifespan, under `STATE`;
whatever that does not take goes the usual way, as if nothing had been tried.
`uvicorn --http config.shortcut:ShortcutProtocol`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from uvicorn.protocols.http.httptools_impl import (
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

from config.protocol import BoundedProtocol

log = logging.getLogger(__name__)
STATE = "farebox.shortcut"
KEPT_BYTES = 16 * 1024  # of a body, until it is whole; what is larger goes the usual way
Header = tuple[bytes, bytes]
# Sends the answer of one request, once: status, headers without those of the connection, body.
Reply = Callable[[int, Sequence[Header], bytes], None]


class Shortcut(Protocol):
    """What an application offers."""

    def wants(self, method: bytes, target: bytes, headers: Sequence[Header]) -> bool:
        """Whether a request is worth keeping until its body is whole; must be quick."""

    def take(
        self,
        method: bytes,
        target: bytes,
        headers: Sequence[Header],
        body: bytes,
        reply: Reply,
    ) -> bool:
        """See to a whole request, and reply at any time later; False: nothing was done with it.

        If it raises, the request goes the usual way too, and what it replies later is not sent.
        """


class _Nobody:
    """Waits for no messages."""

    def set(self) -> None:
        """No task is to be woken."""


_NOBODY = _Nobody()


class _Taken:
    """Stands where a cycle of ASGI would: a request that the application has taken."""

    __slots__ = (
        "_protocol",
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
    )

    def __init__(self, protocol: ShortcutProtocol) -> None:
        self._protocol = protocol
        self.disconnected = self.response_complete = self.response_started = False
        self.keep_alive = True
        self.more_body = False
        self.message_event = _NOBODY

    def reply(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Write the answer, unless the client is gone; another one is never written behind it."""
        if self.disconnected or self.response_complete:
            return
        keeps = self.keep_alive
        standing = self._protocol.server_state.default_headers
        answer = _written(status, [*headers, *standing], body, keep_alive=keeps)
        self.response_started = self.response_complete = True
        self._protocol.go_on(answer, keep_alive=keeps)


class ShortcutProtocol(BoundedProtocol):
    """One connection."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        offered = self.app_state.get(STATE)
        if self.config.access_log or self.root_path or self.limit_concurrency is not None:
            offered = None  # these are done on the usual way only
        self._shortcut = cast("Shortcut | None", offered)
        self._kept: bytes | None = None  # the body so far of a request that may be taken

    def begin(self) -> None:
        """Keep the request until it is whole, or have it begin on the usual way."""
        if self._shortcut is not None and self._may_take(self._shortcut):
            self._kept = b""
        else:
            super().begin()

    def on_body(self, body: bytes) -> None:
        if self._kept is None:
            super().on_body(body)
        elif len(self._kept) + len(body) <= KEPT_BYTES:
            self._kept += body
            self._body_at = self._got
        else:
            self._begin_with(self._kept)
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._kept is not None:
            self._finish(self._kept)
        super().on_message_complete()

    def shutdown(self) -> None:
        if self._kept is not None:
            self._begin_with(self._kept)
        super().shutdown()

    def go_on(self, answer: bytes, *, keep_alive: bool) -> None:
        """Write a whole answer, and go on with the connection or end it."""
        self.transport.write(answer)
        if not keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _may_take(self, shortcut: Shortcut) -> bool:
        before = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        parser = self.parser
        return (
            (before is None or before.response_complete)
            and not self.expect_100_continue
            and not self.flow.write_paused
            and shortcut.wants(parser.get_method(), self.url, self.headers)
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
        )

    def _finish(self, body: bytes) -> None:
        """The kept request is whole."""
        taken, before = _Taken(self), self.cycle
        self.cycle, self._kept = cast("RequestResponseCycle", taken), None
        if not self._is_taken(taken, body):
            self.cycle = before
            self._begin_with(body)

    def _is_taken(self, taken: _Taken, body: bytes) -> bool:
        """Offer the kept request; a fault in that is none of the connection's."""
        assert self._shortcut is not None
        method = self.parser.get_method()
        try:
            return self._shortcut.take(method, self.url, self.headers, body, taken.reply)
        except Exception:
            # Let out, it would be taken for a request that cannot be parsed, and never be answered.
            log.exception("a request could not be taken")
            if taken.response_complete:
                return True
            taken.disconnected = True
            return False

    def _begin_with(self, body: bytes) -> None:
        """Go the usual way with what is there of the request."""
        self._kept = None
        super().begin()
        if body:
            super().on_body(body)


def _written(status: int, headers: Sequence[Header], body: bytes, *, keep_alive: bool) -> bytes:
    """An answer as it goes over the wire; raises ValueError where a header would end early."""
    if HEADER_VALUE_RE.search(b"".join([value for _, value in headers])):
        raise ValueError("a header's value has a control character")
    parts = [STATUS_LINE[status]]
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    if not keep_alive:
        parts.append(b"connection: close\r\n")
    parts += (b"content-length: %d\r\n\r\n" % len(body), body)
    return b"".join(parts)
