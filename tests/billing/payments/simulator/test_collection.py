"""Charging and dunning by a clock that tests move."""

from __future__ import annotations

import pytest
import stripe

from billing.payments.simulator import Simulator
from tests.billing.payments.simulator.conftest import draft, issued, kinds, with_card

DAY = 86_400


def test_declined_invoices_are_retried_on_days_1_3_5_and_7(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    with_card(client, customer, "pm_card_chargeCustomerFail")
    invoice = issued(client, customer, 1000)
    first = simulator.events("invoice.payment_failed")[0]["created"]
    assert invoice.next_payment_attempt == first + DAY
    simulator.advance(8 * DAY)
    after = client.v1.invoices.retrieve(invoice.id)
    assert (after.status, after.attempt_count, after.next_payment_attempt) == ("open", 5, None)
    failures = [event["created"] - first for event in simulator.events("invoice.payment_failed")]
    assert failures == [0, DAY, 3 * DAY, 5 * DAY, 7 * DAY]
    simulator.advance(30 * DAY)
    assert client.v1.invoices.retrieve(invoice.id).attempt_count == 5


def test_a_retry_with_a_new_card_pays(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    with_card(client, customer, "pm_card_chargeCustomerFail")
    invoice = issued(client, customer, 1000)
    with_card(client, customer, "pm_card_visa")
    assert client.v1.invoices.retrieve(invoice.id).status == "open"
    simulator.advance(DAY + 1)
    paid = client.v1.invoices.retrieve(invoice.id)
    assert (paid.status, paid.attempt_count) == ("paid", 2)


def test_an_invoice_without_a_card_counts_as_failed(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    invoice = issued(client, customer, 1000)
    assert (invoice.status, invoice.attempt_count) == ("open", 1)
    assert kinds(simulator)[-1] == "invoice.payment_failed"
    assert simulator.all("charge") == []


@pytest.mark.parametrize(
    ("test_id", "code", "decline_code"),
    [
        ("pm_card_chargeCustomerFail", "card_declined", "generic_decline"),
        ("pm_card_expired", "expired_card", "expired_card"),
        ("pm_card_insufficientFunds", "card_declined", "insufficient_funds"),
    ],
)
def test_paying_tells_why_a_card_was_declined(
    client: stripe.StripeClient,
    simulator: Simulator,
    customer: stripe.Customer,
    test_id: str,
    code: str,
    decline_code: str,
) -> None:
    with_card(client, customer, test_id)
    invoice = draft(client, customer, 1000)
    client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": False})
    with pytest.raises(stripe.CardError) as refused:
        client.v1.invoices.pay(invoice.id)
    error = refused.value.error
    assert error is not None
    assert (refused.value.http_status, error.code) == (402, code)
    assert error.decline_code == decline_code
    assert error.payment_intent is not None
    assert error.payment_intent.status == "requires_payment_method"
    after = client.v1.invoices.retrieve(invoice.id)
    assert (after.status, after.attempt_count, after.amount_paid) == ("open", 1, 0)
    assert after.next_payment_attempt is None
    (charge,) = simulator.all("charge")
    assert (charge["status"], charge["paid"]) == ("failed", False)
    assert kinds(simulator)[-3:] == [
        "charge.failed",
        "payment_intent.payment_failed",
        "invoice.payment_failed",
    ]


def test_three_d_secure_asks_for_the_cardholder(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    with_card(client, customer, "pm_card_authenticationRequired")
    invoice = issued(client, customer, 1000)
    assert (invoice.status, invoice.attempt_count) == ("open", 1)
    assert {"invoice.payment_action_required", "invoice.payment_failed"} <= set(kinds(simulator))
    with pytest.raises(stripe.CardError) as refused:
        client.v1.invoices.pay(invoice.id)
    assert refused.value.code == "invoice_payment_intent_requires_action"
    assert client.v1.invoices.retrieve(invoice.id).amount_paid == 0


def test_the_clock_can_be_set_and_read_over_http(simulator: Simulator) -> None:
    then = simulator.now() + 12_345
    simulator.set_clock(then)
    assert then <= simulator.now() <= then + 5
    simulator.reset()
    assert simulator.now() < then
