"""What differs from Stripe is found, in both directions, and nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts.domain.ids import encode
from accounts.models import Customer
from billing.models import Dispute, Invoice, LedgerPosting, Reconciliation
from billing.operations.refunding import follow_refund
from billing.payments import client
from billing.payments.pushing import push_due
from billing.payments.reconciling import UNDER_WAY, compare, reconcile_lately
from billing.payments.simulator import Simulator
from tests.factories.payments import a_pending_invoice, give_card

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
Found = list[tuple[str, str]]


@pytest.fixture
def untold(simulator: Simulator, customer: Customer, now: datetime) -> Invoice:
    """Paid and refunded in part at Stripe, and another one that is disputed: not heard of yet."""
    give_card(customer, now=now)
    paid = a_pending_invoice(customer, now=now - 9 * DAY)
    push_due(now=now, limit=1)
    (charge,) = simulator.all("charge")
    refund = {"charge": charge["id"], "amount": 100}
    assert client.post("/v1/refunds", params=refund, key="refund").status == 200
    give_card(customer, test_card="pm_card_createDispute", now=now)
    a_pending_invoice(customer, now=now)
    push_due(now=now, limit=1)
    paid.refresh_from_db()
    return paid


@pytest.fixture
def invoice(untold: Invoice, deliver: Callable[[], int]) -> Invoice:
    """The same, after Stripe has told."""
    deliver()
    untold.refresh_from_db()
    assert untold.status == "paid"
    return untold


def found(now: datetime, *, start: timedelta = DAY, end: timedelta = DAY) -> Found:
    differences = compare(now - start, now + end, now=now + timedelta(minutes=1)).found
    return [(str(each.kind), str(each.how)) for each in differences]


def test_equal_books_differ_in_nothing(
    simulator: Simulator, invoice: Invoice, now: datetime
) -> None:
    comparison = compare(now - DAY, now + DAY, now=now)
    assert comparison.found == []
    assert comparison.counts == {"invoice": 2, "payment": 2, "refund": 1, "dispute": 1}
    before = len(simulator.requests("POST"))
    assert found(now, start=2 * DAY, end=-DAY) == []
    assert len(simulator.requests("POST")) == before


def test_edges_of_a_span_are_no_difference(
    simulator: Simulator, invoice: Invoice, now: datetime
) -> None:
    """What was issued nine days ago is at Stripe since today; so may a dispute be."""
    Dispute.objects.update(opened_at=now - 9 * DAY)
    assert found(now) == []
    comparison = compare(now - 10 * DAY, now - 8 * DAY, now=now)
    assert (comparison.found, comparison.counts["invoice"]) == ([], 1)


def test_what_we_lack_is_found(simulator: Simulator, untold: Invoice, now: datetime) -> None:
    """As after a restore to an earlier moment."""
    at_stripe = simulator.get(str(untold.stripe_invoice))
    lost = {"farebox_invoice": encode("inv", 7)}
    made = {"customer": at_stripe["customer"], "currency": "usd", "metadata": lost}
    answer = client.post("/v1/invoices", params=made, key="lost")
    client.post(f"/v1/invoices/{answer.body['id']}/finalize", params={}, key="finalize")
    assert sorted(found(now)) == [
        ("dispute", "missing_here"),
        ("invoice", "missing_here"),
        ("invoice", "status"),
        ("invoice", "status"),
        ("payment", "amount"),
        ("payment", "amount"),
        ("refund", "missing_here"),
    ]


def test_what_stripe_lacks_is_found(simulator: Simulator, invoice: Invoice, now: datetime) -> None:
    simulator.reset()
    assert sorted(found(now)) == [
        ("dispute", "missing_there"),
        ("invoice", "missing_there"),
        ("payment", "amount"),
        ("payment", "amount"),
        ("refund", "missing_there"),
    ]


def test_other_amounts_and_statuses_are_found(
    simulator: Simulator, invoice: Invoice, now: datetime
) -> None:
    Dispute.objects.update(amount=1, status="lost")
    refunded = LedgerPosting.objects.get(kind="refund_given")
    follow_refund(invoice.pk, reference=refunded.note, amount=100, status="failed", at=now, now=now)
    assert sorted(found(now)) == [
        ("dispute", "amount"),
        ("dispute", "status"),
        ("refund", "status"),
    ]


def test_what_was_never_pushed_is_missing_unless_it_is_under_way(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    a_pending_invoice(customer, now=now)
    assert found(now) == []
    comparison = compare(now - DAY, now + DAY, now=now + UNDER_WAY)
    (difference,) = comparison.found
    assert (difference.how, difference.here) == ("missing_there", "2345 usd open, pending")


def test_an_invoice_whose_answer_was_lost_is_known_by_its_metadata(
    simulator: Simulator, customer: Customer, now: datetime
) -> None:
    simulator.fault("drop_after", method="POST", path="*/finalize", times=3)
    invoice = a_pending_invoice(customer, now=now - DAY)
    push_due(now=now, limit=1)
    invoice.refresh_from_db()
    assert invoice.stripe_invoice is None
    assert found(now) == [("invoice", "status")]


def test_what_is_not_ours_is_left_out(simulator: Simulator, db: None, now: datetime) -> None:
    theirs = client.post("/v1/customers", params={"name": "Somebody"}, key="c").body
    made = {"customer": theirs["id"], "currency": "usd", "metadata": {"farebox_invoice": ""}}
    answer = client.post("/v1/invoices", params=made, key="i")
    client.post(f"/v1/invoices/{answer.body['id']}/finalize", params={}, key="f")
    assert found(now) == []


class TestCommand:
    def run(self, now: datetime, *options: str) -> str:
        told = StringIO()
        call_command("reconcile", "--from", (now - DAY).isoformat(), *options, stdout=told)
        return told.getvalue()

    def test_ends_well_where_nothing_differs(self, invoice: Invoice, now: datetime) -> None:
        assert "2 invoices, 2 payments, 1 refunds, 1 disputes" in self.run(now)
        assert not Reconciliation.objects.exists()
        told = json.loads(self.run(now, "--json", "--to", (now + DAY).isoformat(), "--keep"))
        assert (told["compared"]["invoice"], told["differences"]) == (2, [])
        assert Reconciliation.objects.get().differing == 0

    def test_ends_with_1_where_something_does(self, invoice: Invoice, now: datetime) -> None:
        Dispute.objects.update(amount=1)
        with pytest.raises(CommandError, match="1 differ") as differs:
            self.run(now, "--keep")
        assert differs.value.returncode == 1
        (kept,) = Reconciliation.objects.get().differences
        assert (kept["kind"], kept["here"], kept["there"]) == ("dispute", "1 usd", "2345 usd")

    @pytest.mark.parametrize("options", [("--to", "2020-01-01"), ("--to", "soon")])
    def test_ends_with_2_where_it_cannot_compare(
        self, simulator: Simulator, db: None, now: datetime, options: tuple[str, str]
    ) -> None:
        with pytest.raises(CommandError) as refused:
            self.run(now, *options)
        assert refused.value.returncode == 2

    def test_ends_with_2_where_stripe_is_away(
        self, simulator: Simulator, db: None, now: datetime, settings: Settings
    ) -> None:
        settings.STRIPE_API_KEY = "sk_test_revoked"
        with pytest.raises(CommandError, match="cannot be asked") as away:
            self.run(now)
        assert away.value.returncode == 2


def test_the_last_days_are_compared_and_kept(
    simulator: Simulator, customer: Customer, now: datetime, settings: Settings
) -> None:
    a_pending_invoice(customer, now=now - DAY)
    reconcile_lately(now=now)
    assert Reconciliation.objects.get().differing == 1
    settings.STRIPE_API_BASE = ""
    reconcile_lately(now=now)
    assert Reconciliation.objects.count() == 1
