"""The load: connections that stay open, each sending its next request when it has its answer.

A process of its own: reads a plan as JSON from standard input, writes what it saw to standard
output. Sockets and an event loop, no library of HTTP in between.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import uvloop

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_HOLD = re.compile(rb'"hold":\{"id":"(hold_[^"]+)"')
METER = "bench.calls"


@dataclass(slots=True)
class Load:
    """One case under way. `items`: what one request counts for."""

    path: str
    headers: str
    case: str
    keys: list[str]
    prefix: str
    items: int
    from_at: float = 0.0
    until_at: float = 0.0
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    seconds: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    def request(self, path: str, body: str) -> bytes:
        """The bytes of one POST."""
        head = f"POST {path} HTTP/1.1\r\n{self.headers}Content-Length: {len(body)}\r\n\r\n"
        return (head + body).encode()

    def next(self) -> bytes:
        """The next request of the case."""
        return self.request(self.path, BODIES[self.case](self, next(self.numbers)))

    def key(self, number: int) -> str:
        """The key of a customer, one after the other."""
        return self.keys[number % len(self.keys)]


def _check(load: Load, number: int, mode: str) -> str:
    start = f'{{"key":"{load.key(number)}","meter":"{METER}","quantity":1,"mode":"{mode}"'
    return start + ("}" if mode == "peek" else f',"id":"{load.prefix}-{number}"}}')


def _checks(load: Load, number: int) -> str:
    first = number * load.items
    checks = (_check(load, first + n, "consume") for n in range(load.items))
    return f'{{"checks":[{",".join(checks)}]}}'


def _events(load: Load, number: int) -> str:
    first = number * load.items
    return "[" + ",".join(_event(load, first + n) for n in range(load.items)) + "]"


def _event(load: Load, number: int) -> str:
    return (
        f'{{"specversion":"1.0","id":"{load.prefix}-{number}","source":"bench","type":"bench.call",'
        f'"subject":"{load.key(number)}","data":{{}}}}'
    )


BODIES: dict[str, Callable[[Load, int], str]] = {
    "peek": lambda load, number: _check(load, number, "peek"),
    "consume": lambda load, number: _check(load, number, "consume"),
    "hold": lambda load, number: _check(load, number, "hold"),
    "checks": _checks,
    "events": _events,
}


class Connection(asyncio.Protocol):
    """One caller: sends, waits, sends."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._buffer = b""
        self._sent_at = 0.0
        self._settles = False
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport
        self._send(self._load.next())

    def data_received(self, data: bytes) -> None:
        """Read an answer; send the next request when it is whole."""
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._buffer, 0, head)
        end = head + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) < end:
            return
        status, body = self._buffer[9:12], self._buffer[head + 4 : end]
        self._buffer = self._buffer[end:]
        self._answered(status, body)

    def _answered(self, status: bytes, body: bytes) -> None:
        now, load = time.perf_counter(), self._load
        if status != b"200":
            load.faults[status.decode()] += 1
        elif b'"rejected":[{' in body:
            load.faults["rejected"] += 1
        elif load.case == "checks" and body.count(b'"status":200') != load.items:
            load.faults["not all admitted"] += 1
        hold = _HOLD.search(body) if load.case == "hold" else None
        if hold is not None and not self._settles:
            self._settles = True
            self._transport.write(
                load.request(f"/api/v1/holds/{hold[1].decode()}/settle", '{"quantity":1}')
            )
            return
        self._settles = False
        if load.from_at <= now <= load.until_at:
            load.seconds.append(now - self._sent_at)
        if now < load.until_at:
            self._send(load.next())
        else:
            self._transport.close()

    def _send(self, request: bytes) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(request)


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Play one case and tell what was seen."""
    load = Load(
        path=plan["path"],
        headers=(
            f"Host: 127.0.0.1\r\nAuthorization: Bearer {plan['gateway_key']}\r\n"
            "Content-Type: application/json\r\n"
        ),
        case=plan["case"],
        keys=plan["keys"],
        prefix=plan["prefix"],
        items=plan["items"],
    )
    load.from_at = time.perf_counter() + plan["warm_up_s"]
    load.until_at = load.from_at + plan["seconds"]
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", plan["port"])
        for _ in range(plan["connections"])
    ]
    await asyncio.sleep(plan["warm_up_s"] + plan["seconds"] + 0.5)
    for transport, _ in opened:
        transport.abort()
    times = sorted(load.seconds)
    return {
        "per_second": len(times) * load.items / plan["seconds"],
        "p50_ms": _at(times, 0.50) * 1_000,
        "p99_ms": _at(times, 0.99) * 1_000,
        "faults": dict(load.faults),
    }


def _at(times: list[float], share: float) -> float:
    return times[min(int(len(times) * share), len(times) - 1)] if times else 0.0


if __name__ == "__main__":
    uvloop.install()
    sys.stdout.write(json.dumps(asyncio.run(run(json.load(sys.stdin)))))
