"""What most peers do: a counter in Redis or Valkey, moved by a script; served beside the gate.

`pooled`: each call sends its own EVALSHA on a connection of its own. `gathered`: calls that arrive
together go as one pipeline. Either reads the same body as `/check` and answers as shortly as it
can. It knows no gateways' keys, plans, grants, holds or events, and forgets which ids it has seen.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

import msgspec
from redis.asyncio import Redis

from config.asgi import Receive, Send

SOCKET = "BENCH_VALKEY_SOCKET"
_SCRIPT = """
local used = tonumber(redis.call('HGET', KEYS[1], 'used') or '0')
local quantity, included = tonumber(ARGV[1]), tonumber(ARGV[2])
if used + quantity > included then return {0, included - used} end
redis.call('HINCRBY', KEYS[1], 'used', quantity)
return {1, included - used - quantity}
"""
_INCLUDED = 10**12


class Asked(msgspec.Struct):
    """What a body must have."""

    key: str
    meter: str
    quantity: int


_decode = msgspec.json.Decoder(Asked).decode


class Counters:
    """The counters of one process; its connections are made in the loop that uses them."""

    def __init__(self) -> None:
        self._client: Any = Redis(unix_socket_path=os.environ[SOCKET])
        self._script = hashlib.sha1(_SCRIPT.encode()).hexdigest()  # how EVALSHA names it
        self._ready: asyncio.Task[Any] | None = None
        self._waiting: list[tuple[Asked, asyncio.Future[Any]]] = []
        self._gathering: asyncio.Task[None] | None = None

    async def answer(self, body: bytes, *, gathered: bool) -> tuple[int, bytes]:
        """Admit or deny one call."""
        if self._ready is None:
            self._ready = asyncio.ensure_future(self._client.script_load(_SCRIPT))
        if not self._ready.done():
            await self._ready
        asked = _decode(body)
        admitted, remaining = await (self._gather(asked) if gathered else self._call(asked))
        said = b'{"allowed":%s,"remaining":%d}' % (b"true" if admitted else b"false", remaining)
        return (200 if admitted else 402), said

    async def _call(self, asked: Asked) -> Any:
        return await self._client.evalsha(
            self._script, 1, _counter(asked), asked.quantity, _INCLUDED
        )

    async def _gather(self, asked: Asked) -> Any:
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        if self._gathering is None or self._gathering.done():
            self._gathering = asyncio.ensure_future(self._send())
        return await answer

    async def _send(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            pipeline = self._client.pipeline(transaction=False)
            for asked, _ in batch:
                pipeline.evalsha(self._script, 1, _counter(asked), asked.quantity, _INCLUDED)
            for (_, answer), found in zip(batch, await pipeline.execute(), strict=True):
                answer.set_result(found)


def _counter(asked: Asked) -> bytes:
    return asked.meter.encode() + hashlib.sha256(asked.key.encode()).digest()


_counters: Counters | None = None


async def answer(path: str, receive: Receive, send: Send) -> None:
    """Serve /bench/valkey and /bench/valkey-gathered."""
    global _counters  # noqa: PLW0603  # made at the first call: connections belong to a loop
    if _counters is None:
        _counters = Counters()
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    status, said = await _counters.answer(body, gathered=path.endswith("gathered"))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(said))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": said})
