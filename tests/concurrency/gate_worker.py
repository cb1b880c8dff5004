"""One gate in a process of its own: reads a job from standard input, prints an answer a line.

`python -m tests.concurrency.gate_worker` takes JSON {"dsn", "gateway_key", "callers": [[call, …],
…]}: each caller sends its calls one after the other, all callers at once. A call is [method, path,
body]; "$hold" in a path is replaced by the hold of the caller's last answer. Each answer is
printed as it comes: [caller, place, status, body]. Every other request goes the short way. Where
the job "waits", the gate says "ready" when it can decide, and begins when it reads another line.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from datetime import timedelta
from typing import Any

from metering.gate.app import Gate, GateSettings
from metering.gate.engine import Engine
from metering.gate.items import Bounds, Limits
from metering.gate.store import Store
from tests.metering.gate.short import taken

_requests = itertools.count()


def main() -> None:
    """Play the job."""
    job = json.loads(sys.stdin.readline())
    asyncio.run(_play(job))


def gate_of(dsn: str) -> Gate:
    """A gate that waits as long as it takes."""

    def make_engine() -> Engine:
        return Engine(
            Store(dsn, statement_timeout_ms=5_000),
            bounds=Bounds("https://farebox.test", timedelta(days=90), timedelta(minutes=5)),
            limits=Limits(queue=20_000, batch=256, copies=1_000),
        )

    return Gate(make_engine, settings=GateSettings("https://farebox.test", 30.0))


async def _play(job: dict[str, Any]) -> None:
    gate = gate_of(job["dsn"])
    if job.get("waits"):
        unknown = {"customer": "nobody", "meter": "nothing"}
        await ask(gate, job["gateway_key"], "POST", "/api/v1/check", unknown)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(
        *(_call(gate, job, number, calls) for number, calls in enumerate(job["callers"]))
    )
    await gate.stop()


async def _call(gate: Gate, job: dict[str, Any], number: int, calls: list[list[Any]]) -> None:
    hold = "none"
    for place, (method, path, body) in enumerate(calls):
        asked = method, path.replace("$hold", hold), body
        status, answer = await ask(gate, job["gateway_key"], *asked)
        if status == 200 and "hold" in answer:
            hold = answer["hold"]["id"]
        print(json.dumps([number, place, status, answer]), flush=True)


async def ask(gate: Gate, key: str, method: str, path: str, body: Any) -> tuple[int, Any]:
    """One request and its answer: (status, body); every other one goes the short way."""
    raw = b"" if body is None else json.dumps(body).encode()
    answer: dict[str, Any] = {}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message: Any) -> None:
        answer.update(message)

    headers = [
        (b"authorization", f"Bearer {key}".encode()),
        (b"content-type", b"application/json"),
    ]
    if next(_requests) % 2:
        short = await taken(gate, method.encode(), path.encode(), headers, raw)
        if short is not None:
            return short[0], json.loads(short[2])
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    await gate(scope, receive, send)
    return answer["status"], json.loads(answer["body"])


if __name__ == "__main__":
    main()
