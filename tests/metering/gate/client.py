"""Calls the gate as a server would, in a loop of its own thread, without a socket in between.

Every other request goes the short way, where the gate takes it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import secrets
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import unquote

from django.db import connection, transaction

from accounts.domain import keys
from accounts.models import ApiKey, Customer, Gateway, GatewayKey
from accounts.operations.versions import bump, bump_catalogue
from metering.gate.app import Gate, GateSettings
from metering.gate.engine import Engine
from metering.gate.fault_notes import FaultNotes
from metering.gate.items import Bounds, Limits
from metering.gate.quarantine import Quarantine
from metering.gate.store import Store
from tests.metering.gate.short import taken

T = TypeVar("T")
BASE_URL = "https://farebox.test"


@dataclass(frozen=True, slots=True)
class Got:
    """An answer."""

    status: int
    body: Any
    headers: dict[str, str]


def dsn() -> str:
    """The libpq address of the test database."""
    settings = connection.settings_dict
    parts = {
        "host": settings["HOST"],
        "port": settings["PORT"],
        "user": settings["USER"],
        "password": settings["PASSWORD"],
        "dbname": settings["NAME"],
    }
    return " ".join(f"{name}={value}" for name, value in parts.items() if value)


class GateProcess:
    """One gate with its own engine, connection and event loop."""

    def __init__(
        self,
        *,
        batch: int = 512,
        queue: int = 20_000,
        deadline_s: float = 10.0,
        statement_timeout_ms: int = 5_000,
        address: str = "",
        quarantine: int = 0,
        quarantine_bytes: int = 10_000_000,
        wait_s: float = math.inf,
        clocks_apart: timedelta = timedelta(minutes=5),
        store: type[Store] = Store,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        address = address or dsn()

        def make_engine() -> Engine:
            return Engine(
                store(address, statement_timeout_ms=statement_timeout_ms),
                bounds=Bounds(BASE_URL, timedelta(days=90), timedelta(seconds=300), clocks_apart),
                limits=Limits(queue=queue, batch=batch, copies=1_000, wait_s=wait_s),
            )

        def make_quarantine() -> Quarantine | None:
            if not quarantine:
                return None
            return Quarantine(
                address,
                most_events=quarantine,
                most_bytes=quarantine_bytes,
                statement_timeout_ms=statement_timeout_ms,
            )

        self.gate = Gate(
            make_engine,
            settings=GateSettings(BASE_URL, deadline_s),
            make_quarantine=make_quarantine,
            make_notes=lambda: FaultNotes(address, statement_timeout_ms=statement_timeout_ms),
        )
        self.key = ""
        self.short: bool | None = None  # None: every other request goes the short way
        self._requests = itertools.count()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the gate's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run something in the gate's loop while the caller goes on."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self) -> None:
        """End the engine and the loop."""
        self.run(self.gate.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Got:
        """Send one request and return its answer."""
        return self.run(self.request(method, path, body, key=key, headers=headers))

    def together(self, *requests: tuple[str, object]) -> list[Got]:
        """Post several bodies at the same moment; answers in their order."""

        async def gather() -> list[Got]:
            return await asyncio.gather(
                *(self.request("POST", path, body) for path, body in requests)
            )

        return self.run(gather())

    def check(self, body: object) -> Got:
        """POST /check."""
        return self.send("POST", "/api/v1/check", body)

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Got:
        """Send one request inside the loop."""
        raw = body if isinstance(body, bytes) else b"" if body is None else _json(body)
        used = self.key if key is None else key
        sent = {"content-type": "application/json"}
        if used:
            sent["authorization"] = f"Bearer {used}"
        sent |= headers or {}
        fields = [(k.lower().encode(), v.encode("latin-1")) for k, v in sent.items()]
        if self.short or (self.short is None and next(self._requests) % 2):
            short = await self._taken(method.encode(), path.encode(), fields, raw)
            if short is not None:
                return short
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": fields,
        }
        parts = [{"type": "http.request", "body": raw, "more_body": False}]
        answer: dict[str, Any] = {}

        async def receive() -> dict[str, Any]:
            return parts.pop(0)

        async def send(message: Any) -> None:
            answer.update(message)

        await self.gate(scope, receive, send)
        return Got(
            answer["status"],
            json.loads(answer["body"] or b"null"),
            {name.decode(): value.decode() for name, value in answer["headers"]},
        )

    async def _taken(
        self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> Got | None:
        """What a request is answered on the short way, as config.shortcut goes it; None: not."""
        sent = await taken(self.gate, method, target, headers, body)
        if sent is None:
            return None
        status, told, said = sent
        shown = {name.decode(): value.decode() for name, value in told}
        return Got(status, json.loads(said or b"null"), shown)


def _json(body: object) -> bytes:
    return json.dumps(body, default=str).encode()


def make_gateway(name: str = "edge-1") -> tuple[Gateway, str]:
    """A gateway and the text of its key."""
    now = datetime.now(UTC)
    made = keys.new_key(keys.KeyKind.GATEWAY, entropy=secrets.token_bytes(32))
    with transaction.atomic():
        gateway = Gateway.objects.create(name=name, created_at=now)
        GatewayKey.objects.create(
            gateway=gateway, name="key", prefix=made.prefix, digest=made.digest, created_at=now
        )
        bump_catalogue()
    return gateway, made.text


def make_api_key(customer: Customer, **fields: Any) -> str:
    """The text of a new key of a customer."""
    made = keys.new_key(keys.KeyKind.CUSTOMER, entropy=secrets.token_bytes(32))
    with transaction.atomic():
        bump(customer.id)
        given: dict[str, Any] = {"created_at": datetime.now(UTC), **fields}
        ApiKey.objects.create(
            customer=customer, name="key", prefix=made.prefix, digest=made.digest, **given
        )
    return made.text
