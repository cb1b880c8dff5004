"""More than the gate can take, and clients that behave badly: the others do not notice."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
import urllib3
from django.db import connection

from tests.metering.gate.client import GateProcess
from tests.metering.gate.conftest import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
QUEUE, SECONDS, TIMES, BURST = 40, 2.0, 10, 20


@dataclass
class Tally:
    """What callers were told, and how long the admitted ones waited."""

    codes: Counter[str] = field(default_factory=Counter)
    waited_s: list[float] = field(default_factory=list)
    open: int = 0
    most_open: int = 0

    async def call(self, gate: GateProcess, body: dict[str, Any]) -> None:
        """One call, counted."""
        begun = time.perf_counter()
        self.open += 1
        got = await gate.request("POST", "/api/v1/check", body)
        self.open -= 1
        if got.status == 200:
            self.waited_s.append(time.perf_counter() - begun)
            self.codes["200"] += 1
        else:
            self.codes[got.body["code"]] += 1
            assert got.headers["retry-after"] == "1"

    def p99_s(self) -> float:
        """99 of 100 admitted calls were answered within it."""
        return sorted(self.waited_s)[int(len(self.waited_s) * 0.99)]


async def _steady(gate: GateProcess, body: dict[str, Any], tally: Tally) -> float:
    """As many callers as the queue holds, one call after the other: calls per second."""
    begun = time.perf_counter()

    async def caller(number: int) -> None:
        count = 0
        while time.perf_counter() < begun + 1.0:
            await tally.call(gate, body | {"id": f"steady-{number}-{count}"})
            count += 1

    await asyncio.gather(*(caller(number) for number in range(QUEUE)))
    return tally.codes["200"] / (time.perf_counter() - begun)


async def _storm(gate: GateProcess, body: dict[str, Any], tally: Tally, rate: float) -> None:
    """Calls at a rate, whether or not the earlier ones were answered."""
    begun, sent, calls = time.perf_counter(), 0, set()
    while (past := time.perf_counter() - begun) < SECONDS:
        # A machine that cannot even send so many sends what it can.
        for _ in range(min(int(past * rate) - sent, BURST)):
            calls.add(asyncio.ensure_future(tally.call(gate, body | {"id": f"storm-{sent}"})))
            sent += 1
        await asyncio.sleep(0)
        # Those that were refused are done: what is left open waits in the engine.
        tally.most_open = max(tally.most_open, tally.open)
        calls = {each for each in calls if not each.done()}
    await asyncio.gather(*calls)


def test_ten_times_what_it_can_take(world: World) -> None:
    gate = GateProcess(queue=QUEUE, batch=1, deadline_s=10)
    gate.key = world.gate.key
    body = {"key": world.key, "meter": "api.calls", "mode": "consume", "quantity": 0}
    try:
        gate.run(Tally().call(gate, body | {"id": "first"}))
        calm, storm = Tally(), Tally()
        rate = gate.run(_steady(gate, body, calm))
        gate.run(_storm(gate, body, storm, rate * TIMES))
        begun = time.perf_counter()
        after = gate.check(body | {"id": "after"})
        recovered_s = time.perf_counter() - begun
    finally:
        gate.stop()

    assert set(calm.codes) == {"200"}
    assert set(storm.codes) == {"200", "overloaded"}
    assert storm.codes["overloaded"] > storm.codes["200"]
    # Nothing waits but the queue, one batch, and what was sent in this very moment.
    assert storm.most_open <= QUEUE + 1 + BURST
    assert storm.p99_s() < 4 * calm.p99_s() + 0.5
    assert (after.status, recovered_s < 0.25 + calm.p99_s()) == (200, True)


# --- a server with real sockets --------------------------------------------------------------


@dataclass
class Polite:
    """A caller that does all as it should, on a connection of its own."""

    http: urllib3.HTTPConnectionPool
    headers: dict[str, str]
    body: bytes
    slowest_s: float = 0.0

    def calls(self, count: int = 20) -> None:
        """Every one is answered 200, and soon."""
        for _ in range(count):
            begun = time.perf_counter()
            answer = self.http.urlopen(
                "POST", "/api/v1/check", body=self.body, headers=self.headers, retries=False
            )
            assert answer.status == 200, answer.data
            self.slowest_s = max(self.slowest_s, time.perf_counter() - begun)
        assert self.slowest_s < 1.5


@dataclass(frozen=True)
class Server:
    """The gate as `make run` serves it."""

    port: int
    polite: Polite
    key: str
    body: bytes

    def head(self, length: int, more: bytes = b"") -> bytes:
        """The head of a check."""
        return (
            b"POST /api/v1/check HTTP/1.1\r\nhost: gate\r\ncontent-type: application/json\r\n"
            b"authorization: Bearer %s\r\n%scontent-length: %d\r\n\r\n"
            % (self.key.encode(), more, length)
        )

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


@pytest.fixture
def server(world: World, tmp_path: Path) -> Iterator[Server]:
    """A web process on the test database, asked by a gateway that knows a customer."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    address = urlsplit(os.environ["FAREBOX_DATABASE_URL"])
    address = address._replace(path=f"/{connection.settings_dict['NAME']}")
    environment = os.environ | {
        "FAREBOX_DATABASE_URL": urlunsplit(address),
        "FAREBOX_BASE_URL": f"http://127.0.0.1:{port}",
        "FAREBOX_BROKER_URL": "memory://",
    }
    command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    command += ["--timeout-graceful-shutdown", "1"]
    log = tmp_path / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said)
    body = json.dumps({"key": world.key, "meter": "api.calls"}).encode()
    headers = {"authorization": f"Bearer {world.gate.key}", "content-type": "application/json"}
    with urllib3.HTTPConnectionPool("127.0.0.1", port, timeout=5) as http:
        try:
            _await(http, process, log)
            yield Server(port, Polite(http, headers, body), world.gate.key, body)
        finally:
            process.terminate()
            process.wait(20)


def _await(http: urllib3.HTTPConnectionPool, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if http.urlopen("GET", "/healthz", retries=False).status == 200:
                return
        except urllib3.exceptions.HTTPError:
            time.sleep(0.05)  # between two looks: there is no other sign of a port that opens
    raise AssertionError(f"the server did not answer: {log.read_text()[-2000:]}")


def test_rude_clients_stall_nobody(server: Server) -> None:
    server.polite.calls()
    with ExitStack() as rude:
        for _ in range(60):
            slow, half = (rude.enter_context(server.connect()) for _ in range(2))
            slow.sendall(server.head(5_000) + b"{")  # and no more of the body
            half.sendall(server.head(5_000)[:-9])  # and no end of the head
        server.polite.calls()

        pipelined = rude.enter_context(server.connect())
        pipelined.sendall((server.head(len(server.body)) + server.body) * 200)
        server.polite.calls()
        assert _answers(pipelined, 200) == Counter({200: 200})

        padded = rude.enter_context(server.connect())
        more = b"".join(b"x-pad-%d: %s\r\n" % (n, b"y" * 10_000) for n in range(100))
        padded.sendall(server.head(len(server.body), more) + server.body)
        server.polite.calls()
        # Either is right: to answer it, or to refuse it.
        assert set(_answers(padded, 1)) <= {200, 400, 431}
        server.polite.calls()


def _answers(client: socket.socket, count: int) -> Counter[int]:
    """Read so many answers off a connection."""
    found: Counter[int] = Counter()
    with client.makefile("rb") as stream:
        for _ in range(count):
            found[int(stream.readline().split()[1])] += 1
            length = 0
            while (line := stream.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            stream.read(length)
    return found
