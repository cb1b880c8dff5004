"""Raw events as a file: all of them once, of the right customer, in bounded memory."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from django.db import connection
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Customer
from config.asgi import application
from config.quickstart.demonstration.calling import until
from metering.api import event_exports
from metering.api.event_exports import parquet_chunks
from metering.models import UsageEvent
from metering.operations.correcting import amend, void
from metering.queries import event_exports as paging
from tests.factories.accounts import an_operator_key
from tests.factories.metering import make_customer, make_meter, report
from tests.metering.api.calls import as_customer, get

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def lines(answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]


def table(answer: Any) -> list[dict[str, Any]]:
    assert answer["Content-Type"] == "application/vnd.apache.parquet"
    file = io.BytesIO(b"".join(answer.streaming_content))
    found: list[dict[str, Any]] = pyarrow.parquet.read_table(file).to_pylist()
    return found


@pytest.mark.django_db
def test_every_event_once_in_order_as_lists_show_it(
    operator: Client, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "AT_ONCE", 3)
    meter = make_meter(dimensions=["model"])
    made = [
        report(customer, meter, n, at=HOUR - timedelta(minutes=n // 4), properties={"model": "a"})
        for n in range(12)
    ]
    report(make_customer(), meter, 1, at=HOUR)
    by: dict[str, Any] = {"actor": "opk_1", "reason": "a test", "now": datetime.now(UTC)}
    amend(customer.id, event_id=made[1].id, quantities={meter.id: 7}, **by)
    void(customer.id, event_id=made[2].id, **by)
    answer = get(operator, "/events/export", customer="acme")
    assert f"events-{customer.public_id}-" in answer["Content-Disposition"]
    assert answer["Cache-Control"] == "no-store"
    found = lines(answer)
    ordered = sorted(made, key=lambda each: (each.occurred_at, each.id))
    assert [each["external_id"] for each in found] == [each.external_id for each in ordered]
    listed = get(operator, "/events", customer="acme", limit="100").json()["data"]
    assert found == list(reversed(listed))
    assert {each["corrected"] for each in found} == {None, "amend", "void"}
    assert lines(get(as_customer(customer), "/me/events/export")) == found


@pytest.mark.django_db
def test_parquet_says_the_same(
    operator: Client, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "AT_ONCE", 2)
    monkeypatch.setattr(event_exports, "_ROW_GROUP", 2)
    meter = make_meter(dimensions=["model"])
    users = make_meter(aggregation="unique", value_property="user")
    made = [report(customer, meter, n, properties={"model": "ä", "n": n}) for n in range(4)]
    UsageEvent.objects.filter(id=made[3].id).update(usage={str(users.id): "ada"})
    void(customer.id, event_id=made[0].id, reason="x", actor="opk_1", now=datetime.now(UTC))
    found = table(get(operator, "/events/export", customer="acme", format="parquet"))
    said = lines(get(operator, "/events/export", customer="acme"))
    for row, line in zip(found, said, strict=True):
        for name in ("properties", "original"):
            row[name] = None if row[name] is None else json.loads(row[name])
        for name in ("occurred_at", "received_at"):
            line[name] = datetime.fromisoformat(line[name])
        assert row == line
    empty = table(get(as_customer(make_customer()), "/me/events/export", format="parquet"))
    assert empty == []


@pytest.mark.django_db
def test_what_was_asked_for_and_nothing_else(operator: Client, customer: Customer) -> None:
    meter, other = make_meter(), make_meter()
    made = [report(customer, meter, 1, at=HOUR - timedelta(hours=n)) for n in range(4)]
    report(customer, other, 1, at=HOUR)
    UsageEvent.objects.filter(id=made[2].id).update(
        received_at=datetime.now(UTC) + timedelta(hours=1)
    )

    def asked(**query: str) -> set[str]:
        answer = get(operator, "/events/export", customer="acme", **query)
        return {each["external_id"] for each in lines(answer)}

    times = [(HOUR - timedelta(hours=n)).isoformat().replace("+00:00", "Z") for n in range(5)]
    of_the_meter = {made[n].external_id for n in (0, 1, 3)}  # one is received after the beginning
    assert asked(meter=meter.key) == of_the_meter
    assert asked(type=meter.event_type, source="test") == of_the_meter
    assert asked(source="nobody") == set()
    assert asked(**{"from": times[3], "to": times[1]}) == {made[3].external_id}
    strange = get(operator, "/events/export", customer="acme", format="xml")
    assert (strange.status_code, strange.json()["param"]) == (422, "format")
    accepted = {"Accept": "application/vnd.apache.parquet"}
    picky = operator.get("/api/v1/events/export?customer=acme", headers=accepted)
    assert len(lines(picky)) == 4


@pytest.mark.django_db
def test_a_server_without_pyarrow_says_what_to_do(
    operator: Client, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec  # others are found as ever: routes may be read just now
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *given: None if name.startswith("pyarrow") else find_spec(name, *given),
    )
    answer = get(operator, "/events/export", customer="acme", format="parquet")
    assert (answer.status_code, answer.json()["param"]) == (422, "format")
    assert "ask for jsonl" in answer.json()["detail"]


@given(sizes=st.lists(st.integers(1, 30), max_size=12), group=st.integers(1, 50))
def test_parquet_leaves_nothing_in_memory_and_loses_no_row(sizes: list[int], group: int) -> None:
    body: dict[str, Any] = {
        "id": "evt_1", "customer": "cus_1", "source": "s", "external_id": "e", "type": "t",
        "occurred_at": "2026-01-01T00:00:00Z", "received_at": "2026-01-01T00:00:00Z",
        "usage": [], "properties": {}, "gateway": None, "api_key": None, "from_hold": False,
        "late": False, "over_hold": False, "corrected": None, "original": None,
    }  # fmt: skip
    taken = 0

    def pages() -> Any:
        nonlocal taken
        for size in sizes:
            taken += size
            yield [body] * size

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_exports, "_ROW_GROUP", group)
        chunks, ahead = [], 0
        for chunk in parquet_chunks(pages()):
            chunks.append(chunk)
            assert taken - ahead <= group + 30
            ahead = taken
    file = pyarrow.parquet.read_table(io.BytesIO(b"".join(chunks)))
    assert file.num_rows == sum(sizes)


class Gone(Exception):
    """The client went away."""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/events/export?customer={}", "/customers/{}/export"])
def test_a_client_that_goes_away_leaves_nothing_open(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "AT_ONCE", 2)
    monkeypatch.setattr("billing.api.customer_exports._ROWS_AT_ONCE", 2)
    customer, meter = make_customer(), make_meter()
    for _ in range(12):
        report(customer, meter, 1)
    _, key = an_operator_key("admin")
    where, _, query = f"/api/v1{path.format(customer.public_id)}".partition("?")
    before = _servers()  # of what other tests of this process left open
    got = asyncio.run(_go_away(where, query, key.text))
    assert got[0]["status"] == 200
    assert 1 <= len([each for each in got if each.get("body")]) < 5
    # A connection that was closed has its server for a moment more.
    until("no server is left", lambda: not _servers().keys() - before.keys())
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_cursors")
        assert cursor.fetchone() == (0,)


def _servers() -> dict[int, str]:
    """The servers of this database's other connections, with the last statement of each."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid, query FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            "   AND backend_type = 'client backend'"
        )
        return dict(cursor.fetchall())


async def _go_away(path: str, query: str, key: str) -> list[Any]:
    """Ask, and hang up after the second chunk; what was sent."""
    got: list[Any] = []
    gone = asyncio.Event()
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        got.append(message)
        if len(got) > 2:
            gone.set()
            await asyncio.Event().wait()  # a socket that takes no more

    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
        "query_string": query.encode(), "server": ("localhost", 80), "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"localhost"), (b"authorization", f"Bearer {key}".encode())],
        "scheme": "http", "http_version": "1.1",
    }  # fmt: skip
    await asyncio.wait_for(application(scope, receive, send), 20)
    return got
