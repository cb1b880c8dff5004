"""What became of an invoice whose tax Stripe computed: the tax is kept, booked and taken back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from accounts.models import Customer
from billing.domain.ledger import Account
from billing.domain.taxes import InvoiceTax, TaxRow
from billing.models import Invoice
from billing.operations import collecting
from billing.operations.taxing import await_tax
from billing.payments.pushing import push_due
from billing.payments.simulator import Simulator
from billing.queries.invoices import open_invoices
from tests.billing.payments.taxing import balance, of_october
from tests.factories.billing import ACTOR, a_plan, a_subscription, bill, fresh

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("taxed")]


@pytest.mark.traced
class TestKeeping:
    def test_the_tax_is_written_once(self, placed: Customer, now: datetime) -> None:
        invoice = of_october(placed, now)
        push_due(now=now, limit=5)
        changes: list[dict[str, Any]] = [{"tax_added": 1}, {"taxes": []}]
        for change in (*changes, {"taxed_at": None, "tax_added": 0}):
            with pytest.raises(IntegrityError, match="cannot change"), transaction.atomic():
                Invoice.objects.filter(pk=invoice.pk).update(**change)
        collecting.mark_pushed(invoice.pk, stripe_invoice="in_x", now=now)
        assert fresh(invoice).tax_added == 400

    def test_what_is_heard_again_or_too_late_changes_nothing(
        self, placed: Customer, now: datetime
    ) -> None:
        invoice = of_october(placed, now)
        push_due(now=now, limit=5)
        other = InvoiceTax((TaxRow(1, 5, included=False, reason=""),))
        collecting.mark_pushed(
            invoice.pk, stripe_invoice="in_x", tax=other, tax_status="complete", now=now
        )
        await_tax(invoice.pk, status="failed", problem="Late.", until=now, now=now)
        invoice.refresh_from_db()
        assert (invoice.tax_added, invoice.tax_status, invoice.push) == (400, "complete", "pushed")
        assert balance(placed, Account.TAX) == -400

    def test_part_of_it_paid_is_still_owed(self, placed: Customer, now: datetime) -> None:
        invoice = of_october(placed, now)
        push_due(now=now, limit=5)
        collecting.mark_paid(invoice.pk, amount_paid=2_000, reference="pi_1", now=now)
        invoice.refresh_from_db()
        assert (invoice.status, invoice.amount_due) == ("open", 400)
        assert list(open_invoices(placed.id)) == [invoice]

    def test_voiding_takes_the_tax_back(self, placed: Customer, now: datetime) -> None:
        invoice = of_october(placed, now)
        push_due(now=now, limit=5)
        collecting.void(invoice.pk, now=now)
        for account in (Account.RECEIVABLE, Account.REVENUE, Account.TAX):
            assert balance(placed, account) == 0

    def test_giving_up_writes_all_of_it_off(self, placed: Customer, now: datetime) -> None:
        invoice = of_october(placed, now)
        push_due(now=now, limit=5)
        collecting.mark_uncollectible(invoice.pk, now=now)
        assert balance(placed, Account.WRITE_OFF) == 2_400
        assert balance(placed, Account.RECEIVABLE) == 0

    def test_another_total_at_stripe_is_for_an_operator(
        self, simulator: Simulator, placed: Customer, now: datetime
    ) -> None:
        invoice = of_october(placed, now)
        simulator.fault("wrong_total", method="POST", path="/v1/invoices/*/add_lines")
        push_due(now=now, limit=5)
        invoice.refresh_from_db()
        assert (invoice.push, invoice.taxed_at) == ("quarantined", None)
        assert "total: ours 2000, Stripe's 2001" in invoice.push_problem

    def test_an_invoice_that_is_not_pushed_has_no_tax(
        self, placed: Customer, now: datetime
    ) -> None:
        subscription = a_subscription(a_plan(), customer=placed, card=False, collection="manual")
        invoice = bill(subscription, now=now)
        assert push_due(now=now, limit=5) == 0
        collecting.mark_paid_manually(invoice.pk, reference="wire", actor=ACTOR, now=now)
        invoice.refresh_from_db()
        assert (invoice.status, invoice.amount_paid, invoice.tax) == ("paid", 2_000, 0)
