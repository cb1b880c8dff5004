"""The gate's paths keep to docs/openapi.json, whatever they are asked: through the real ASGI entry.

/authorize is asked with any method, and with anything behind it in the path.

Requests are schemathesis', valid and not, with names that lead somewhere in place of some of its
own. No answer is a fault of ours; status, media type and body are as described; what was refused
left nothing behind, and at the end the books agree.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlsplit

import hypothesis
import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from accounts.models import Customer
from accounts.operations.versions import bump
from config import asgi
from metering.gate.routing import is_hot
from metering.models import Balance, Hold, UsageBatch, UsageEvent
from tests.factories.accounts import a_customer
from tests.metering.gate.books import broken, uneven
from tests.metering.gate.client import dsn, make_api_key
from tests.metering.gate.conftest import World, entitle, gate, make_customer, world

if TYPE_CHECKING:
    from schemathesis import Case
    from schemathesis.core.transport import Response

__all__ = ["gate", "world"]
DESCRIPTION: Final = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
LABELS: Final = sorted(
    f"{method.upper()} {path}"
    for path, methods in json.loads(DESCRIPTION.read_text())["paths"].items()
    for method in methods
    if is_hot(method.upper(), path)
)
EXAMPLES: Final = 1_000 if hypothesis.settings().max_examples >= 1_000 else 25
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.slow,
    pytest.mark.timeout(900),
]


class Served:
    """config.asgi, as a server would call it: one loop, requests one after the other."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something in the loop, and wait for it."""
        done: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(60)

    def stop(self) -> None:
        """End the gate and the loop."""
        self.run(asgi.gate.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def ask(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Any:
        """Send a request; (status, headers, body)."""
        parts = urlsplit(url)
        scope = {
            "type": "http", "http_version": "1.1", "method": method, "scheme": "http",
            "path": unquote(parts.path), "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(), "root_path": "",
            "headers": [(n.lower().encode(), v.encode("latin-1")) for n, v in headers.items()],
            "server": ("localhost", 80), "client": ("127.0.0.1", 1),
        }  # fmt: skip
        return self.run(_answered(scope, body))


async def _answered(scope: dict[str, Any], body: bytes) -> tuple[int, list[Any], bytes]:
    told: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        told.append(message)

    await asgi.application(scope, receive, send)
    whole = b"".join(each.get("body", b"") for each in told)
    return told[0]["status"], told[0]["headers"], whole


@pytest.fixture
def served(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The whole application, on this test's database."""
    monkeypatch.setenv("FAREBOX_DATABASE_URL", dsn())
    made = Served()
    yield made
    made.stop()


@functools.cache
def operations() -> dict[str, Any]:
    """Each operation as schemathesis reads it, which is loaded by who asks: it takes seconds."""
    import schemathesis
    from schemathesis.core.result import Ok

    found = schemathesis.openapi.from_path(DESCRIPTION).get_all_operations()
    return {each.ok().label: each.ok() for each in found if isinstance(each, Ok)}


def names(world: World) -> dict[str, Any]:
    """What leads somewhere, by the member that may hold it."""
    poor = make_customer()  # one with nothing left, and one who bought nothing
    entitle(poor, world.calls, included=0)
    keys = st.sampled_from([world.key, world.key, make_api_key(poor), make_api_key(a_customer())])
    customers = st.sampled_from([world.customer.public_id, poor.public_id])
    mine = {"key": keys, "subject": keys, "customer": customers, "external_customer_id": customers}
    kinds = {"meter": st.sampled_from(["chat.tokens", "api.calls"]), "specversion": st.just("1.0")}
    types = st.sampled_from(["llm.completion", "api.call"])
    said = {"quantity": st.integers(0, 3), "mode": st.sampled_from(["peek", "consume", "hold"])}
    return mine | kinds | said | {"type": types, "code": types}


def counted() -> list[Any]:
    """What a refusal must leave as it was, whoever it is of: not what expires meanwhile."""
    return [
        UsageEvent.objects.count(),
        UsageBatch.objects.count(),
        sorted(Hold.objects.values_list("id", flat=True)),
        sorted(Balance.objects.values_list("customer_id", "meter_id", "start_at", "used")),
    ]


def known(body: Any, real: dict[str, Any]) -> Any:
    """The body with these in place of what stands there."""
    if isinstance(body, list):
        return [known(each, real) for each in body]
    if not isinstance(body, dict):
        return body
    if "key" in body and "customer" in body:
        body = {name: value for name, value in body.items() if name != "customer"}
    return {name: real.get(name, known(value, real)) for name, value in body.items()}


@pytest.mark.parametrize("label", LABELS)
def test_the_gate_answers_as_it_is_described(label: str, world: World, served: Served) -> None:
    from schemathesis import GenerationMode

    operation = operations()[label]
    cases = st.one_of(*(operation.as_strategy(mode) for mode in GenerationMode))
    chosen = st.fixed_dictionaries({}, optional=names(world))
    callers = st.sampled_from([*[world.gate.key] * 8, world.key, "fb_gw_nobody", ""])
    hold = world.check(mode="hold", id="held", quantity=3).body["hold"]["id"]

    @settings(
        max_examples=EXAMPLES,
        derandomize=EXAMPLES < 1_000,  # what is found by chance is for `make prove`
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(case=cases, some=chosen, held=st.booleans(), more=HEADERS, line=LINES, caller=callers)
    def ask(
        case: Case[Any],
        some: dict[str, Any],
        held: bool,
        more: dict[str, str],
        line: tuple[str, str, bytes],
        caller: str,
    ) -> None:
        case.body = known(case.body, some)
        if held and case.path_parameters:
            case.path_parameters["id"] = hold
        headers = {"authorization": f"Bearer {caller}"}
        if operation.path.endswith("/authorize"):
            headers = {"x-farebox-gateway": caller} | _for(world, more)
        else:
            line = AS_DESCRIBED
        before = counted()
        response = _response(served, case, headers, line=line)
        _judge(case, response)
        if response.status_code >= 400:
            assert counted() == before, case.as_curl_command()

    ask()
    assert broken() == uneven() == []


def test_answers_of_every_kind_are_as_described(world: World, served: Served) -> None:
    """Fuzzed requests seldom lead far; these end in every way that a call can end."""
    poor = make_customer()
    entitle(poor, world.calls, included=0)
    entitle(poor, world.tokens, included=2)
    seen: set[tuple[str, int]] = set()

    def ask(label: str, body: Any, *, key: str = world.gate.key, **parameters: Any) -> Any:
        case = operations()[label].Case(
            body=body, media_type="application/json", path_parameters=parameters or None
        )
        response = _response(served, case, {"authorization": f"Bearer {key}"})
        _judge(case, response)
        seen.add((label.rpartition("/")[2], response.status_code))
        return json.loads(response.content)

    mine, theirs = {"key": world.key, "meter": "api.calls"}, {"customer": poor.public_id}
    keep = {"mode": "hold", "ttl": 60}
    hold = ask(CHECK, {**mine, **keep, "id": "h", "quantity": 2})["hold"]["id"]
    ask(CHECK, {**theirs, **keep, "id": "t", "meter": "chat.tokens", "quantity": 2})
    checks = [
        mine,
        {**mine, "mode": "consume", "id": "c", "properties": {"model": "m"}},
        {**theirs, "meter": "api.calls"},
        {**theirs, "meter": "chat.tokens", "quantity": 1},
        {**theirs, "meter": "nothing"},
        {"customer": a_customer().public_id, "meter": "api.calls"},
        {"customer": "nobody", "meter": "api.calls"},
        {**mine, "mode": "consume", "id": "h"},
        {},
    ]
    for one in checks:
        ask(CHECK, one)
    ask(CHECK, {"checks": checks})
    ask(CHECK, mine, key=world.key)
    with transaction.atomic():
        bump(poor.id)
        Customer.objects.filter(id=poor.id).update(suspended_at=datetime.now(UTC))
    ask(CHECK, {**theirs, "meter": "api.calls"})
    ask(f"{HOLDS}/extend", {"ttl": 9}, id=hold)
    ask(f"{HOLDS}/settle", {"items": [{"meter": "api.calls", "quantity": 5}]}, id=hold)
    ask(f"{HOLDS}/settle", {"quantity": 4}, id=hold)
    ask(f"{HOLDS}/release", {}, id=hold)
    ask(f"{HOLDS}/extend", {"ttl": 9}, id=hold)
    common = {"specversion": "1.0", "source": "s", "type": "api.call", "subject": world.key}
    ask("POST /api/v1/events", [common | {"id": "a"}, common | {"id": "a"}, common, {}])
    wanted = {("check", each) for each in (200, 402, 403, 422, 429)}
    wanted |= {("extend", 200), ("extend", 409), ("settle", 200), ("release", 409)}
    assert wanted | {("events", 200)} <= seen


def test_authorize_takes_any_method_and_anything_behind_it(world: World, served: Served) -> None:
    poor = make_customer()
    entitle(poor, world.calls, included=0)
    poors, case = make_api_key(poor), operations()["GET /api/v1/authorize"].Case()
    sent = {"x-farebox-gateway": world.gate.key, "x-farebox-meter": "api.calls"}
    for method, dialect, behind in itertools.product(METHODS, DIALECTS, BEHIND):
        for key, expected in ((world.key, 200), (poors, 402)):
            line = (method, dialect + behind, b"")
            response = _response(served, case, sent | {"x-api-key": key}, line=line)
            _judge(case, response)
            as_403 = expected == 402 and f"{dialect}{behind}/".startswith("/nginx/")
            assert response.status_code == (403 if as_403 else expected), line


CHECK: Final = "POST /api/v1/check"
HOLDS: Final = "POST /api/v1/holds/{id}"
HEADERS = st.fixed_dictionaries(
    {"x-api-key": st.sampled_from(["$key", "$key", "$key", "fb_key_nobody", ""])},
    optional={
        "x-farebox-meter": st.sampled_from(["api.calls", "chat.tokens", "nothing", "", "\x7f"]),
        "x-farebox-quantity": st.sampled_from(["0", "1", "-1", "1.5", "9" * 30, "ten", ""]),
        "x-farebox-mode": st.sampled_from(["peek", "consume", "hold", "eat", ""]),
        "x-request-id": st.text(st.characters(max_codepoint=255), max_size=300),
        "x-forwarded-uri": st.text(st.characters(max_codepoint=255), max_size=30),
        "x-forwarded-method": st.sampled_from(["GET", "POST", "", "\xff"]),
    },
)


# What /authorize is asked with: a method (none: the described one), what follows, a body.
AS_DESCRIBED: Final = ("", "", b"")
METHODS: Final = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "PROPFIND",
    "get",
    "M-SEARCH",
]
DIALECTS: Final = ("", "/nginx", "/nginx-accel", "/nginx-accel/nginx", "/nginxx")
BEHIND: Final = ("", "/", "/v1/chat/completions", "//", "/..", "/%2e%2E/%2f", "/%ff%00")
LINES = st.tuples(
    st.sampled_from(METHODS),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(DIALECTS),
        st.sampled_from(BEHIND) | st.text(max_size=30).map(lambda text: f"/{quote(text)}"),
        st.sampled_from(["", "?", "?a=b&a=%00", "?%"]),
    ),
    st.sampled_from([b"", b"{", b"x" * 5_000]),
)


def _for(world: World, headers: dict[str, str]) -> dict[str, str]:
    return {name: world.key if value == "$key" else value for name, value in headers.items()}


def _response(
    served: Served,
    case: Case[Any],
    more: dict[str, str],
    *,
    line: tuple[str, str, bytes] = ("", "", b""),
) -> Response:
    """What the application answers, as schemathesis wants it."""
    import requests
    from schemathesis.core.transport import Response

    sent = case.as_transport_kwargs(base_url="http://localhost")
    prepared = requests.Request(**sent).prepare()
    body: Any = prepared.body or b""
    headers = {name.lower(): str(value) for name, value in prepared.headers.items()} | more
    method, suffix, forwarded = line
    status, told, said = served.ask(
        method or str(prepared.method),
        f"{prepared.url}{suffix}",
        headers,
        forwarded or (body if isinstance(body, bytes) else body.encode()),
    )
    found: dict[str, list[str]] = {}
    for name, value in told:
        found.setdefault(name.decode(), []).append(value.decode("latin-1"))
    return Response(status, found, said, prepared, elapsed=0.0, verify=False)


def _judge(case: Case[Any], response: Response) -> None:
    from schemathesis.specs.openapi import checks

    if response.status_code >= 500:  # only ever: the gateway itself forwards wrongly
        assert case.operation.path.endswith("/authorize"), response.text
        assert response.status_code == 503
        assert json.loads(response.content)["code"] == "gateway_misconfigured"
    case.validate_response(
        response,
        checks=[
            checks.status_code_conformance,
            checks.content_type_conformance,
            checks.response_headers_conformance,
            checks.response_schema_conformance,
        ],
    )
