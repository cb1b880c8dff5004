"""Invoices, credit notes, wallets and the ledger over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.domain import ids
from accounts.models import AuditEntry, Customer
from billing.models import Invoice
from billing.operations import collecting
from metering.models import UsageEvent
from tests.billing.api.conftest import Caller
from tests.factories.accounts import a_customer
from tests.factories.billing import START, a_plan, a_subscription, bill, calls
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db
NOVEMBER = datetime(2026, 11, 3, tzinfo=UTC)
TIERS = {
    "model": "graduated",
    "tiers": [
        {"up_to": 100, "unit_price": "0.01"},
        {"up_to": None, "unit_price": "0.005"},
    ],
}


@pytest.fixture
def customer() -> Customer:
    return a_customer(external_id="acme")


@pytest.fixture
def event(customer: Customer) -> UsageEvent:
    """October's usage: 1,250 calls, of which 1,000 are included."""
    meter = make_meter(key="chat.tokens")
    plan = a_plan(calls(meter, price=TIERS), key="pro")
    a_subscription(plan, customer=customer, collection="manual")
    return report(customer, meter, 1_250, at=START + timedelta(days=3))


@pytest.fixture
def invoice(customer: Customer, event: UsageEvent) -> Invoice:
    return bill(customer.subscriptions.get(), now=NOVEMBER)


def test_an_invoice_explains_itself_tier_by_tier(operator: Caller, invoice: Invoice) -> None:
    body = operator.seen(f"/invoices/{invoice.public_id}")
    assert (body["status"], body["currency"], body["total"]) == ("open", "usd", 2_175)
    assert (body["amount_due"], body["amount_paid"]) == (2_175, 0)
    assert body["period"] == {"start_at": "2026-10-01T00:00:00Z", "end_at": "2026-11-01T00:00:00Z"}
    fee, usage = body["lines"]
    assert (fee["kind"], fee["amount"], fee["tiers"]) == ("fee", 2_000, [])
    assert (usage["kind"], usage["meter"], usage["quantity"]) == ("usage", "chat.tokens", 250)
    assert usage["amount"] == 175
    assert [tier["quantity"] for tier in usage["tiers"]] == [100, 150]
    assert usage["id"].startswith("line_")


def test_invoices_are_listed_by_customer_and_status(operator: Caller, invoice: Invoice) -> None:
    a_customer(external_id="other")
    (found,) = operator.seen("/invoices", customer="acme", status="open")["data"]
    assert found["id"] == invoice.public_id
    assert operator.seen("/invoices", customer="other")["data"] == []
    assert operator.seen("/invoices", status="paid")["data"] == []
    assert operator.get("/invoices", status="lost").status_code == 422


def test_the_next_invoice_is_previewed(
    operator: Caller, customer: Customer, event: UsageEvent
) -> None:
    before = Invoice.objects.count()
    body = operator.seen("/customers/acme/invoice-preview")
    assert (body["currency"], body["total"]) == ("usd", 2_175)
    assert [line["amount"] for line in body["lines"]] == [2_000, 175]
    assert Invoice.objects.count() == before
    a_customer(external_id="other")
    assert operator.get("/customers/other/invoice-preview").status_code == 404


def test_marking_as_paid_happens_once(operator: Caller, invoice: Invoice) -> None:
    path = f"/invoices/{invoice.public_id}/mark-paid"
    body = operator.made(path, {"reference": "wire 17"})
    assert (body["status"], body["amount_paid"], body["amount_due"]) == ("paid", 2_175, 0)
    assert operator.made(path, {"reference": "wire 17"}) == body
    postings = operator.seen("/ledger-postings", invoice=invoice.public_id)["data"]
    assert [each["kind"] for each in postings] == ["payment_received", "invoice_issued"]
    for each in postings:
        assert sum(entry["amount"] for entry in each["entries"]) == 0
    assert AuditEntry.objects.filter(action="invoice.paid_outside").count() == 1
    assert operator.post(f"/invoices/{invoice.public_id}/void").status_code == 409


def test_voiding_and_writing_off(operator: Caller, invoice: Invoice) -> None:
    path = f"/invoices/{invoice.public_id}"
    assert operator.made(f"{path}/mark-uncollectible")["status"] == "uncollectible"
    voided = operator.made(f"{path}/void")
    assert (voided["status"], voided["amount_due"]) == ("void", 0)
    assert operator.made(f"{path}/void") == voided


@pytest.mark.parametrize(
    ("verb", "status"), [("void", "void"), ("mark-uncollectible", "uncollectible")]
)
def test_what_stripe_collects_is_taken_back_here_and_then_there(
    operator: Caller, customer: Customer, verb: str, status: str
) -> None:
    invoice = bill(a_subscription(a_plan(), customer=customer), now=NOVEMBER)
    collecting.mark_pushed(invoice.id, stripe_invoice="in_1", now=NOVEMBER)
    answer = operator.made(f"/invoices/{invoice.public_id}/{verb}")
    assert (answer["status"], answer["stripe_invoice"]) == (status, "in_1")


def test_what_stripe_collects_is_not_paid_outside_as_well(
    operator: Caller, customer: Customer
) -> None:
    subscription = a_subscription(a_plan(), customer=customer)
    invoice = bill(subscription, now=NOVEMBER)
    assert invoice.push == "pending"
    answer = operator.post(f"/invoices/{invoice.public_id}/mark-paid")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    invoice.refresh_from_db()
    assert (invoice.status, invoice.push) == ("open", "pending")


def test_credit_notes_never_exceed_the_invoice(operator: Caller, invoice: Invoice) -> None:
    path = f"/invoices/{invoice.public_id}/credit-notes"
    note = operator.made(path, {"amount": 175, "reason": "goodwill"})
    assert (note["amount"], note["currency"]) == (175, "usd")
    assert note["id"].startswith("cn_")
    too_much = operator.post(path, {"amount": 2_001, "reason": "more"})
    assert (too_much.status_code, too_much.json()["param"]) == (422, "amount")
    assert operator.seen(path)["data"] == [note]


def test_a_wallet_is_topped_up_once_per_reference(operator: Caller, customer: Customer) -> None:
    body = {"customer": "acme", "amount": 5_000, "reference": "wire 18"}
    wallet = operator.made("/wallets/top-up", body)
    assert wallet["balance"] == "50"
    assert operator.made("/wallets/top-up", body) == wallet
    assert operator.seen("/wallets", customer="acme")["data"] == [wallet]
    assert operator.seen(f"/wallets/{wallet['id']}") == wallet
    refused = operator.post("/wallets/top-up", body | {"amount": 0})
    assert (refused.status_code, refused.json()["param"]) == (422, "amount")


def fate_of(operator: Caller, event: UsageEvent) -> dict[str, Any]:
    public_id = ids.encode_owned("evt", customer_id=event.customer_id, key=event.id)
    fate: dict[str, Any] = operator.seen(f"/events/{public_id}")["fate"]
    return fate


def test_an_events_fate_ends_at_its_invoice_line(
    operator: Caller, customer: Customer, event: UsageEvent
) -> None:
    (before,) = fate_of(operator, event)["meters"]
    assert (before["charged"], before["stopped"]) == (None, "Its period is not invoiced yet.")
    invoice = bill(customer.subscriptions.get(), now=NOVEMBER)
    (meter,) = fate_of(operator, event)["meters"]
    line = invoice.lines.get(kind="usage")
    assert meter["charged"]["line"] == line.public_id
    assert meter["charged"]["number"] == invoice.number
    assert meter["charged"]["amount"] == 175
    assert meter["stopped"] is None
