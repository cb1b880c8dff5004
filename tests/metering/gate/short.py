"""A request on the short way, as config.shortcut goes it, without a socket and without Django."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from metering.gate.answers import Header
from metering.gate.app import Gate

Sent = tuple[int, Sequence[Header], bytes]  # status, headers, body


async def taken(
    gate: Gate, method: bytes, target: bytes, headers: Sequence[Header], body: bytes
) -> Sent | None:
    """What a request is answered where the gate takes it; None: nothing was done with it."""
    got: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()

    def reply(status: int, told: Sequence[Header], said: bytes) -> None:
        got.set_result((status, told, said))

    if not gate.wants(method, target, headers):
        return None
    if not gate.take(method, target, headers, body, reply):
        return None
    return await got
