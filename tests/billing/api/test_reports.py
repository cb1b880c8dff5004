"""Reports as CSV: equal to the invoices to the cent, and safe in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from billing.api.reports import csv_chunks, safe_cell
from billing.models import Invoice
from tests.billing.api.conftest import Caller
from tests.factories.accounts import a_customer
from tests.factories.billing import START, a_plan, a_subscription, bill, calls
from tests.factories.metering import make_meter, report

NOVEMBER = datetime(2026, 11, 3, tzinfo=UTC)
SPAN = {"from": "2026-10-01", "to": "2026-11-30T00:00:00Z"}


def rows_of(operator: Caller, path: str, **query: str) -> list[dict[str, str]]:
    answer = operator.get(path, **SPAN, **query)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    text = b"".join(answer.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def invoices(operator: Caller) -> list[Invoice]:
    meter = make_meter(key="chat.tokens")
    plan = a_plan(calls(meter), key="pro")
    made = []
    for name, used in (("=cmd()", 1_250), ("Acme, Inc.", 1_001), ("Zoë", 10)):
        customer = a_customer(name=name)
        subscription = a_subscription(plan, customer=customer)
        report(customer, meter, used, at=START + timedelta(days=3))
        made.append(subscription)
    return [bill(each, now=NOVEMBER) for each in made]


@pytest.mark.django_db
def test_invoice_lines_sum_up_to_the_invoices(operator: Caller, invoices: list[Invoice]) -> None:
    totals: Counter[str] = Counter()
    rows = rows_of(operator, "/reports/invoice-lines.csv")
    for row in rows:
        totals[row["invoice_id"]] += int(row["amount"])
    assert totals == {each.public_id: each.total for each in invoices}
    assert {row["customer"] for row in rows} == {"'=cmd()", "Acme, Inc.", "Zoë"}


@pytest.mark.django_db
def test_usage_sums_up_to_the_usage_lines(operator: Caller, invoices: list[Invoice]) -> None:
    rows = rows_of(operator, "/reports/usage.csv")
    assert sorted(int(row["used"]) for row in rows) == [10, 1_001, 1_250]
    assert sum(int(row["amount"]) for row in rows) == sum(
        line.amount for each in invoices for line in each.lines.filter(kind="usage")
    )


@pytest.mark.django_db
def test_one_customer_alone(operator: Caller, invoices: list[Invoice]) -> None:
    customer = invoices[0].customer
    rows = rows_of(operator, "/reports/invoice-lines.csv", customer=customer.public_id)
    assert {row["customer_id"] for row in rows} == {customer.public_id}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({}, "from"),
        ({"from": "2026-10-01", "to": "2026-10-01"}, "to"),
        ({"from": "yesterday", "to": "2026-10-01"}, "from"),
        (SPAN | {"customer": "nobody"}, "customer"),
        (SPAN | {"format": "xlsx"}, "format"),
    ],
)
def test_a_span_that_is_none_is_refused(
    operator: Caller, query: dict[str, str], param: str
) -> None:
    answer = operator.get("/reports/usage.csv", **query)
    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["param"] == param


@pytest.mark.django_db
def test_any_accept_header_will_do(operator: Caller) -> None:
    answer = operator.client.get("/api/v1/reports/usage.csv", SPAN, headers={"Accept": "text/csv"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd", "'+cmd"),
        ("-cmd", "'-cmd"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("-175", "-175"),
        ("+1.50", "+1.50"),
        ("-1-1", "'-1-1"),
        ("Acme", "Acme"),
        ("", ""),
    ],
)
def test_formulas_become_text_and_numbers_stay(value: str, cell: str) -> None:
    assert safe_cell(value) == cell


def test_rows_are_streamed_a_few_hundred_at_a_time() -> None:
    taken = 0

    def rows() -> Iterator[list[str]]:
        nonlocal taken
        for number in range(1_200):
            taken += 1
            yield [str(number)]

    chunks = csv_chunks(rows())
    assert next(chunks).startswith(b"0\r\n1\r\n")
    assert taken == 500
    assert len(list(chunks)) == 2
