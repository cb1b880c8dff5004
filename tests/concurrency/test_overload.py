"""More than the gate can take, and clients that behave badly: the others do not notice."""

from __future__ import annotations

import asyncio
import json
import os
import re
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

import hypothesis
import pytest
import urllib3
from django.db import connection, transaction

from accounts.operations.versions import bump
from metering.models import UsageEvent
from tests.free_ports import free_port
from tests.metering.gate.client import GateProcess
from tests.metering.gate.conftest import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.proof]
ROOT = Path(__file__).resolve().parents[2]
QUEUE, TIMES, BURST = 40, 10, 20
THOROUGH = hypothesis.settings().max_examples >= 1_000
ADMITTED, CALLS = (1_000, 100) if THOROUGH else (50, 10)
RSS_MIB = 64  # what a storm may add to a process: the queue, the answers, the allocator's slack


@dataclass
class Tally:
    """What callers were told, and how many of them waited at once."""

    codes: Counter[str] = field(default_factory=Counter)
    open: int = 0
    most_open: int = 0

    async def call(self, gate: GateProcess, body: dict[str, Any]) -> None:
        """One call, counted."""
        self.open += 1
        got = await gate.request("POST", "/api/v1/check", body)
        self.open -= 1
        if got.status == 200:
            self.codes["200"] += 1
        else:
            self.codes[got.body["code"]] += 1
            assert got.headers["retry-after"] == "1"


async def _storm(gate: GateProcess, body: dict[str, Any], tally: Tally) -> None:
    """Ten calls for each that is answered: more than can be taken, however fast the machine is."""
    sent, calls = 0, set()
    while tally.codes["200"] < ADMITTED:
        # Until the queue is full, and then on, so that most of them are refused.
        for _ in range(BURST):
            calls.add(asyncio.ensure_future(tally.call(gate, body | {"id": f"storm-{sent}"})))
            sent += 1
        await asyncio.sleep(0)
        # Those that were refused are done: what is left open waits in the engine.
        tally.most_open = max(tally.most_open, tally.open)
        calls = {each for each in calls if not each.done()}
    await asyncio.gather(*calls)


def test_more_than_it_can_take_is_refused_and_does_not_pile_up(world: World) -> None:
    gate = GateProcess(queue=QUEUE, batch=1, deadline_s=30)
    gate.key = world.gate.key
    body = {"key": world.key, "meter": "api.calls", "mode": "consume", "quantity": 0}
    storm = Tally()
    try:
        gate.run(Tally().call(gate, body | {"id": "first"}))
        gate.run(_storm(gate, body, storm))
        after = [gate.check(body | {"id": f"after-{n}"}) for n in range(20)]
    finally:
        gate.stop()

    assert set(storm.codes) == {"200", "overloaded"}
    assert storm.codes["overloaded"] > TIMES * storm.codes["200"]
    # Nothing waits but the queue, the flights, and what was sent in this very moment.
    assert storm.most_open <= QUEUE + 2 + BURST
    assert [each.status for each in after] == [200] * 20
    counted = UsageEvent.objects.filter(external_id__startswith="storm").count()
    assert counted == storm.codes["200"]


def test_who_is_refused_is_not_listened_to(world: World) -> None:
    """While the queue is full, no body is parsed: not even one that could not be."""
    gate = GateProcess(queue=1, batch=1, deadline_s=30)
    gate.key = world.gate.key
    body = {"key": world.key, "meter": "api.calls", "mode": "consume"}
    try:
        gate.run(Tally().call(gate, body | {"id": "first"}))
        with transaction.atomic():  # the gate waits for the customer's row
            bump(world.customer.id)
            waiting = [
                gate.begin(gate.request("POST", "/api/v1/check", body | {"id": f"waits-{n}"}))
                for n in range(2)
            ]
            while (got := gate.send("POST", "/api/v1/check", b"rubbish")).status != 503:
                assert got.status == 400  # the queue is not full yet
        assert (got.body["code"], got.headers["retry-after"]) == ("overloaded", "1")
        assert {each.result(30).status for each in waiting} <= {200, 503}
        assert gate.send("POST", "/api/v1/check", b"rubbish").status == 400
    finally:
        gate.stop()


# --- a server with real sockets --------------------------------------------------------------


@dataclass
class Polite:
    """A caller that does all as it should, on a connection of its own."""

    http: urllib3.HTTPConnectionPool
    headers: dict[str, str]
    body: bytes

    def calls(self, count: int = 20) -> None:
        """Every one is answered 200."""
        for _ in range(count):
            answer = self.http.urlopen(
                "POST", "/api/v1/check", body=self.body, headers=self.headers, retries=False
            )
            assert answer.status == 200, answer.data


@dataclass(frozen=True)
class Server:
    """The gate as `make run` serves it."""

    port: int
    pid: int
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

    def rss_mib(self) -> float:
        """Memory of the process."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1_024

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


@pytest.fixture
def server(world: World, tmp_path: Path) -> Iterator[Server]:
    """A web process on the test database, asked by a gateway that knows a customer."""
    port = free_port()
    address = urlsplit(os.environ["FAREBOX_DATABASE_URL"])
    address = address._replace(path=f"/{connection.settings_dict['NAME']}")
    environment = os.environ | {
        "FAREBOX_DATABASE_URL": urlunsplit(address),
        "FAREBOX_BASE_URL": f"http://127.0.0.1:{port}",
        "FAREBOX_BROKER_URL": "memory://",
        "FAREBOX_GATE_QUEUE": str(QUEUE),
        "FAREBOX_GATE_BATCH": "1",
    }
    command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "config.shortcut:ShortcutProtocol", "--no-access-log"]
    command += ["--timeout-graceful-shutdown", "1"]
    log = tmp_path / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said)
    body = json.dumps({"key": world.key, "meter": "api.calls"}).encode()
    headers = {"authorization": f"Bearer {world.gate.key}", "content-type": "application/json"}
    with urllib3.HTTPConnectionPool("127.0.0.1", port, timeout=5) as http:
        try:
            _await(http, process, log)
            yield Server(port, process.pid, Polite(http, headers, body), world.gate.key, body)
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
        assert _answers(padded, 1) == Counter({431: 1})
        server.polite.calls()


def test_a_storm_does_not_swell_the_process(server: Server) -> None:
    asyncio.run(_blow(server, connections=8, calls=20))
    before = server.rss_mib()
    told = asyncio.run(_blow(server, connections=4 * QUEUE, calls=CALLS))
    assert set(told) == {200, 503}
    assert server.rss_mib() - before < RSS_MIB
    server.polite.calls()


async def _blow(server: Server, *, connections: int, calls: int) -> Counter[int]:
    """So many callers at once, each with one call after the other; what they were told."""
    told: Counter[int] = Counter()

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(calls):
            writer.write(server.head(len(server.body)) + server.body)
            head = await reader.readuntil(b"\r\n\r\n")
            told[int(head.split(None, 2)[1])] += 1
            (length,) = re.findall(rb"content-length: (\d+)", head.lower())
            await reader.readexactly(int(length))
        writer.close()

    await asyncio.gather(*(caller() for _ in range(connections)))
    return told


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
