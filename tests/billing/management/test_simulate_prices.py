"""`manage.py simulate_prices`: past periods under other prices, and nothing is moved."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from billing.models import Invoice, InvoiceLine
from billing.operations import catalogue
from billing.operations.plan_shapes import VersionTerms
from tests.factories.accounts import a_customer
from tests.factories.billing import ACTOR, NOW, START, a_plan, a_subscription, bill, calls
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
ISSUED = datetime(2026, 11, 2, tzinfo=UTC)
SPAN = ("--from", "2026-10-01", "--to", "2026-11-01")


def run(*words: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("simulate_prices", *words, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def books() -> list[object]:
    lines = InvoiceLine.objects.order_by("id").values_list("id", "amount")
    return [*Invoice.objects.order_by("id").values_list("id", "total", "status"), *lines]


def test_each_customer_is_compared_and_nothing_is_moved() -> None:
    meter = make_meter()
    old = a_plan(calls(meter, included=1_000), key="pro", fee=2_000)
    first = a_subscription(old, customer=a_customer(external_id="acme", name="Acme"))
    second = a_subscription(old)
    report(first.customer, meter, 1_500, at=START + DAY)
    terms = VersionTerms(fee=1_000, entitlements=[calls(meter, included=0)])
    draft = catalogue.new_version(old.plan_id, terms=terms, actor=ACTOR, now=NOW)
    for each in (first, second):
        bill(each, now=ISSUED)
    before = books()

    said, progress = run("--plan-version", draft.public_id, *SPAN)
    data: dict[str, Any] = json.loads(run("--plan-version", draft.public_id, *SPAN, "--json")[0])

    assert "2 of 2 periods" in progress
    assert "Acme" in said
    assert "$25.00 -> $25.00 (+0)" in said  # 20 + 5, or 10 + 15
    assert (data["periods"], data["before"], data["after"]) == (2, 4_500, 3_500)
    assert books() == before
    only = json.loads(
        run("--plan-version", draft.public_id, *SPAN, "--customer", "acme", "--json")[0]
    )
    assert [row["name"] for row in only["customers"]] == ["Acme"]
    named = ("--customer", second.customer.public_id, "--source", old.public_id, "--json")
    assert json.loads(run("--plan-version", draft.public_id, *SPAN, *named)[0])["after"] == 1_000
    other = json.loads(
        run("--plan-version", draft.public_id, *SPAN, "--source", draft.public_id, "--json")[0]
    )
    assert other["periods"] == 0


def test_periods_of_another_interval_are_not_compared() -> None:
    monthly, yearly = a_subscription(a_plan()), a_plan(interval="year", fee=20_000)
    bill(monthly, now=ISSUED)
    assert json.loads(run("--plan-version", yearly.public_id, *SPAN, "--json")[0])["periods"] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("--plan-version", "nonsense", *SPAN),
        ("--plan-version", "pv_0000000000000", *SPAN),
        ("--plan-version", "{pv}", "--from", "yesterday", "--to", "2026-11-01"),
        ("--plan-version", "{pv}", "--from", "2026-11-01", "--to", "2026-11-01"),
        ("--plan-version", "{pv}", *SPAN, "--customer", "nobody"),
        ("--plan-version", "{pv}", *SPAN, "--customer", "cus_0000000000000"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(words: tuple[str, ...]) -> None:
    version = a_plan()
    with pytest.raises(CommandError):
        run(*(word.replace("{pv}", version.public_id) for word in words))
