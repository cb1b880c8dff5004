"""An invoice is computed again from its events, by query, command and API."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from billing.models import Invoice
from billing.queries.explanations import explained
from tests.billing.api.conftest import Caller
from tests.factories.accounts import an_operator_key, bearer
from tests.factories.billing import NOW, START, a_plan, a_subscription, bill, calls
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
ISSUED = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture
def invoice() -> Invoice:
    meter = make_meter(key="api.calls")
    seats = {"included": 1, "price": {"model": "per_unit", "unit_price": "10"}}
    plan = a_plan(calls(meter), name="Pro", minimum=9_000, seats=seats)
    subscription = a_subscription(plan, seats=2)
    report(subscription.customer, meter, 1_200, at=START + DAY)
    report(subscription.customer, meter, 300, at=NOW)
    return bill(subscription, now=ISSUED)


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("explain", *words, stdout=out)
    return out.getvalue()


def test_every_line_follows_and_events_are_counted(invoice: Invoice) -> None:
    found = explained(invoice)
    assert found.holds
    assert [line.recomputed for line in found.lines] == [2_000, 1_000, 500, 5_500]
    usage = found.lines[2]
    assert usage.counted is not None
    assert (usage.used, usage.counted.events, usage.counted.quantity) == (1_500, 2, 1_500)
    assert usage.sums == ("500 x 0.01 = 5",)


def test_late_events_are_seen_and_the_line_still_holds(invoice: Invoice) -> None:
    line = invoice.lines.get(kind="usage")
    assert line.meter is not None
    report(invoice.customer, line.meter, 50, at=NOW + DAY)
    found = explained(invoice)
    assert found.holds
    assert [each.changed for each in found.lines] == [False, False, True, False]
    assert "today 3 events come to 1,550, which the next invoice puts right" in run(
        str(invoice.number)
    )


def test_a_line_that_does_not_follow_is_named(invoice: Invoice) -> None:
    with connection.cursor() as cursor:  # what no operation can do
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE billing_invoiceline DISABLE TRIGGER USER")
        cursor.execute("UPDATE billing_invoiceline SET amount = 501 WHERE kind = 'usage'")
        cursor.execute("ALTER TABLE billing_invoiceline ENABLE TRIGGER USER")
    assert not explained(invoice).holds
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("explain", str(invoice.number), stdout=out)
    assert ended.value.code == 1
    assert "! computed again this is 500 minor units" in out.getvalue()


def test_the_command_shows_the_sums(invoice: Invoice) -> None:
    said = run(invoice.public_id)
    assert "api.calls: 500 past the 1,000 included: $5.00" in said
    assert "1,500 used; today 2 events come to 1,500" in said
    assert "9,000 - 3,500 = 5,500" in said
    assert said.rstrip().endswith("Total: $90.00\nEvery line follows from its details.")
    data: dict[str, Any] = json.loads(run(str(invoice.number), "--json"))
    assert (data["total"], data["holds"], len(data["lines"])) == (9_000, True, 4)


@pytest.mark.parametrize("reference", ["INV-999999", "inv_0000000000000", "nonsense"])
def test_an_invoice_that_is_not_there(reference: str) -> None:
    with pytest.raises(CommandError):
        run(reference)


def test_over_http(invoice: Invoice) -> None:
    operator = Caller(Client(headers=bearer(an_operator_key()[1])))
    body = operator.seen(f"/invoices/{invoice.public_id}/explanation")
    assert (body["holds"], body["total"]) == (True, 9_000)
    assert body["lines"][2]["counted"] == 1_500
    assert body["lines"][0]["counted"] is None
