"""Reads bodies, within bounds on each of them, and on all large ones of the process together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from metering.domain.bodies import BODY_MAX
from metering.gate.engine import Overloaded
from metering.gate.wire import Problem

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
BODY_TIMEOUT_S = 10.0 + BODY_MAX / (16 * 1024)  # the server's own patience (config.protocol)
BODIES_MAX = 128 * 1024 * 1024  # of all that come in parts, until each is answered


class Gone(Exception):
    """The client went away before its request was whole."""


async def begin(receive: Receive, headers: Mapping[bytes, bytes]) -> tuple[bytes, bool]:
    """The first part of a body, and whether more of it comes; raises Gone, Problem."""
    if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
        raise Problem("media_type_unsupported", "Send the body as it is, not compressed.")
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > BODY_MAX:
        raise _too_large()
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Gone
    return message.get("body", b""), message.get("more_body", False)


class Bodies:
    """What the large bodies of a process take. `size`: bytes, of those that have no answer yet."""

    def __init__(self) -> None:
        self.size = 0


class Large:
    """One body that comes in parts; must be released when its request is answered."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._size = 0

    async def read(self, first: bytes, receive: Receive) -> bytes:
        """The whole body; raises Gone, Problem, and Overloaded where all together are too large."""
        parts, more = [first], True
        self._count(first)
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    parts.append(message.get("body", b""))
                    self._count(parts[-1])
                    more = message.get("more_body", False)
        except TimeoutError as error:
            raise Problem("request_timeout", "The body did not arrive in time.") from error
        return b"".join(parts)

    def release(self) -> None:
        """The body is needed no longer."""
        self._bodies.size -= self._size
        self._size = 0

    def _count(self, part: bytes) -> None:
        self._size += len(part)
        self._bodies.size += len(part)
        if self._size > BODY_MAX:
            raise _too_large()
        if self._bodies.size > BODIES_MAX:
            raise Overloaded


def _too_large() -> Problem:
    return Problem("body_too_large", f"The body may have {BODY_MAX:,} bytes.")
