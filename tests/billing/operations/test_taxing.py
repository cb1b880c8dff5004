"""Tax that becomes known after an invoice was voided or given up."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from billing.domain.ledger import Account
from billing.domain.taxes import InvoiceTax, TaxRow
from billing.models import Invoice, LedgerPosting
from billing.operations import checking, collecting
from billing.queries.ledger import account_balance
from tests.factories.billing import ACTOR, a_subscription, bill, fresh

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 2, tzinfo=UTC)
ADDED = TaxRow(400, 2_000, included=False, reason="")
INCLUDED = TaxRow(333, 1_667, included=True, reason="")


@pytest.fixture
def invoice() -> Invoice:
    return bill(a_subscription(), now=NOW)


def finalized(invoice: Invoice, row: TaxRow = ADDED) -> None:
    """The answer that a worker had from Stripe arrives here."""
    for _ in range(2):
        collecting.mark_pushed(
            invoice.pk,
            stripe_invoice="in_1",
            tax=InvoiceTax((row,)),
            tax_status="complete",
            now=NOW,
        )
    assert checking.broken_invariants(now=NOW) == []


def balances(invoice: Invoice) -> dict[Account, int]:
    return {
        account: amount
        for account in Account
        if (amount := account_balance(invoice.customer_id, account=account, currency="usd"))
    }


@pytest.mark.parametrize("row", [ADDED, INCLUDED])
def test_a_void_invoice_owes_no_tax(invoice: Invoice, row: TaxRow) -> None:
    collecting.void(invoice.pk, actor=ACTOR, now=NOW)
    postings = LedgerPosting.objects.count()
    finalized(invoice, row)
    void = fresh(invoice)
    assert (void.stripe_invoice, void.taxed_at, void.tax_added) == ("in_1", None, 0)
    assert LedgerPosting.objects.count() == postings
    assert balances(invoice) == {}


def test_tax_on_one_that_was_given_up_is_written_off_too(invoice: Invoice) -> None:
    collecting.mark_uncollectible(invoice.pk, actor=ACTOR, now=NOW)
    finalized(invoice)
    assert fresh(invoice).tax_added == 400
    assert balances(invoice) == {
        Account.REVENUE: -2_000,
        Account.TAX: -400,
        Account.WRITE_OFF: 2_400,
    }


def test_tax_within_what_was_given_up_moves_between_revenue_and_tax(invoice: Invoice) -> None:
    collecting.mark_uncollectible(invoice.pk, actor=ACTOR, now=NOW)
    finalized(invoice, INCLUDED)
    assert balances(invoice) == {
        Account.REVENUE: -1_667,
        Account.TAX: -333,
        Account.WRITE_OFF: 2_000,
    }


def test_paid_after_all_nothing_stays_written_off(invoice: Invoice) -> None:
    collecting.mark_uncollectible(invoice.pk, actor=ACTOR, now=NOW)
    finalized(invoice)
    collecting.mark_paid(invoice.pk, amount_paid=2_400, reference="pi_1", now=NOW)
    assert fresh(invoice).status == "paid"
    assert balances(invoice) == {Account.REVENUE: -2_000, Account.TAX: -400, Account.CASH: 2_400}
    assert checking.broken_invariants(now=NOW) == []


def test_voided_after_all_nothing_stays_booked(invoice: Invoice) -> None:
    collecting.mark_uncollectible(invoice.pk, actor=ACTOR, now=NOW)
    finalized(invoice)
    collecting.void(invoice.pk, actor=ACTOR, now=NOW)
    assert balances(invoice) == {}
    assert checking.broken_invariants(now=NOW) == []
