"""A failed invoice is collected on a new payment method once, whatever is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from accounts.models import Customer
from billing.models import Invoice, StripeCustomer, StripeEvent, StripeStep
from billing.payments import client, customers, inbox, paying
from billing.payments.pushing import push_due
from billing.payments.simulator import Simulator
from tests.factories.payments import a_pending_invoice, give_card

pytestmark = pytest.mark.django_db
DECLINED = "pm_card_chargeCustomerFail"
PAY = "/v1/invoices/*/pay"


@pytest.fixture
def failed(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Callable[[], int]
) -> Invoice:
    """An invoice that was declined, and a good card that came after."""
    give_card(customer, test_card=DECLINED, now=now)
    invoice = a_pending_invoice(customer, now=now)
    push_due(now=now, limit=1)
    deliver()
    invoice.refresh_from_db()
    assert invoice.attempt_count == 1
    give_card(customer, now=now)
    return invoice


def row_of(invoice: Invoice) -> StripeCustomer:
    return StripeCustomer.objects.get(customer=invoice.customer_id)


@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "409", "500"])
def test_a_lost_answer_is_asked_for_again(
    simulator: Simulator, failed: Invoice, now: datetime, fault: str
) -> None:
    simulator.fault(fault, method="POST", path=PAY, times=3)
    assert inbox.poll(now=now) > 0
    inbox.process_pending(now=now, limit=100)
    waiting = StripeEvent.objects.filter(processed_at=None)
    if fault != "drop_after":
        assert any("StepWaits" in event.outcome for event in waiting)

    inbox.process_pending(now=now + timedelta(minutes=1), limit=100)
    failed.refresh_from_db()
    assert (failed.status, failed.amount_paid) == ("paid", failed.total)
    assert sum(charge["paid"] for charge in simulator.all("charge")) == 1
    (step,) = StripeStep.objects.filter(kind="pay")
    assert step.attempt == 1


@pytest.mark.parametrize("fault", ["drop_before", "drop_after"])
def test_a_forgotten_key_charges_nobody_twice(
    simulator: Simulator, failed: Invoice, now: datetime, fault: str
) -> None:
    simulator.fault(fault, method="POST", path=PAY, times=3)
    with pytest.raises(Exception, match="No answer"):
        paying.pay_invoice_now(failed, payment_method=row_of(failed).payment_method, now=now)
    simulator.advance(25 * 3_600)
    later = now + timedelta(hours=25)
    paying.pay_invoice_now(failed, payment_method=row_of(failed).payment_method, now=later)
    failed.refresh_from_db()
    assert failed.status == Invoice.Status.PAID
    assert sum(charge["paid"] for charge in simulator.all("charge")) == 1


def test_an_invoice_paid_meanwhile_is_simply_paid(
    simulator: Simulator, failed: Invoice, now: datetime
) -> None:
    path = f"/v1/invoices/{failed.stripe_invoice}/pay"
    assert client.post(path, params={}, key="by-hand").status == 200
    method = row_of(failed).payment_method
    assert paying.pay_invoice_now(failed, payment_method=method, now=now) == "paid"
    failed.refresh_from_db()
    assert failed.amount_paid == failed.total
    assert sum(charge["paid"] for charge in simulator.all("charge")) == 1


def test_a_method_that_is_refused_is_not_asked_again(
    simulator: Simulator, failed: Invoice, now: datetime
) -> None:
    for _ in range(2):
        assert paying.pay_invoice_now(failed, payment_method="pm_nobody1", now=now) == "open"
    (step,) = StripeStep.objects.filter(kind="pay")
    assert step.state == StripeStep.State.QUARANTINED
    failed.refresh_from_db()
    assert failed.push == Invoice.Push.PUSHED


def test_the_method_that_failed_is_left_to_stripe(
    simulator: Simulator, failed: Invoice, now: datetime
) -> None:
    row = row_of(failed)
    (declined,) = [
        charge["payment_method"] for charge in simulator.all("charge") if not charge["paid"]
    ]
    customers.make_default(row, payment_method=declined, now=now)
    assert paying.retry_failed_invoices(row, now=now) == 0
    assert simulator.requests("POST", f"/v1/invoices/{failed.stripe_invoice}/pay") == []


def test_a_customer_whose_answer_was_lost_is_known_from_its_events(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Callable[[], int]
) -> None:
    give_card(customer, now=now)
    known = StripeCustomer.objects.get(customer=customer)
    StripeCustomer.objects.all().delete()
    deliver()
    row = StripeCustomer.objects.get(customer=customer)
    assert row.stripe_customer == known.stripe_customer
    assert row.payment_method == known.payment_method


def test_a_customer_without_a_default_is_charged_on_its_newest_card(
    simulator: Simulator, customer: Customer, now: datetime, deliver: Callable[[], int]
) -> None:
    row = customers.ensure_customer(customer, now=now)
    attach = {"customer": row.stripe_customer}
    client.post("/v1/payment_methods/pm_card_visa/attach", params=attach, key="attach")
    deliver()
    row.refresh_from_db()
    (at_stripe,) = simulator.all("customer")
    assert row.payment_method
    assert at_stripe["invoice_settings"]["default_payment_method"] == row.payment_method
