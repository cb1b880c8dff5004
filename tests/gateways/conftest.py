"""A real gateway between a client and a toy API, with a live Farebox that decides."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from config.quickstart.catalogue import CALLS, TOKENS
from metering.models import Balance, Hold, UsageBatch, UsageEvent
from tests.flows.conftest import Live, live, server, server_log, stripe_of_the_session
from tests.gateways import proxies
from tests.gateways.proxies import KINDS, WHERE, Kind
from tests.gateways.upstream import Upstream, serving

Headers = Mapping[str, str]
__all__ = ["live", "server", "server_log", "stripe_of_the_session"]
ROUTES = [
    {"method": "POST", "path": "/v1/chat/*", "meter": TOKENS, "quantity": 1_000, "mode": "hold"},
    {"method": "*", "path": "/region", "meter": "region", "mode": "peek"},
    {"method": "*", "path": "/v1/models", "meter": CALLS, "mode": "peek"},
    {"method": "*", "path": "/v1/*", "meter": CALLS, "quantity": 1, "mode": "consume"},
]


@dataclass(frozen=True, slots=True)
class Got:
    """What the end client got."""

    status: int
    headers: Message
    body: bytes


@dataclass(frozen=True, slots=True)
class Client:
    """An end client of the gateway on that port, with a customer's key."""

    port: int
    key: str

    @contextmanager
    def open(
        self, method: str, path: str, body: bytes | None = None, headers: Headers | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer of which the body was not read; without an empty Authorization, the key's."""
        sent = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            given = {name: value for name, value in sent.items() if value}
            connection.request(method, path, body, given)
            yield connection.getresponse()
        finally:
            connection.close()

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Headers | None = None
    ) -> Got:
        """The whole answer."""
        with self.open(method, path, body, headers) as answer:
            return Got(answer.status, answer.headers, answer.read())


@dataclass(frozen=True, slots=True)
class Edge:
    """A customer of plan `free` at a gateway, and what lies behind it."""

    live: Live
    client: Client
    customer: dict[str, Any]
    upstream: Upstream

    def balance(self, meter: str) -> tuple[int, int]:
        """(used, held) of all windows, as the database has them."""
        rows = Balance.objects.filter(meter__key=meter)
        return sum(row.used for row in rows), sum(row.held for row in rows)

    def books(self) -> list[Any]:
        """Everything that a denial must leave as it was."""
        return [
            sorted(Balance.objects.values_list()),
            sorted(UsageEvent.objects.values_list("id", "usage"), key=str),
            sorted(Hold.objects.values_list("id", "state"), key=str),
            UsageBatch.objects.count(),
        ]


def _kind(name: str) -> Any:
    program = KINDS[name].program
    reason = f"{program} is not here: neither in {WHERE} nor on PATH"
    return pytest.param(
        name, marks=pytest.mark.skipif(proxies.find(program) is None, reason=reason)
    )


@pytest.fixture(params=[_kind(name) for name in KINDS])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each gateway that is on this machine."""
    return KINDS[cast("str", request.param)]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """The toy API."""
    with serving() as found:
        yield found


@pytest.fixture
def gateway(kind: Kind, upstream: Upstream, tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Starts the gateway in front of the toy API, asking at the port that is given."""
    with ExitStack() as started:

        def start(*, farebox: int, key: str = "fb_gw_of_nobody") -> int:
            return started.enter_context(
                proxies.running(kind, home=tmp_path, farebox=farebox, app=upstream.port, key=key)
            )

        yield start


@pytest.fixture
def edge(gateway: Callable[..., int], live: Live, upstream: Upstream) -> Edge:
    """A gateway with routes, and a customer who may make 1,000 calls and use 10,000 tokens."""
    made = live.farebox.post("/gateways", {"name": "edge", "routes": ROUTES})
    port = gateway(farebox=urlsplit(live.base_url).port, key=made["key"])
    customer = live.farebox.post("/customers", {"external_id": "ada", "name": "ada"})
    key = live.farebox.post("/api-keys", {"customer": "ada", "name": "test"})["key"]
    live.farebox.post("/subscriptions", {"customer": "ada", "plan": "free"})
    return Edge(live, Client(port, key), customer, upstream)
