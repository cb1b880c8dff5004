"""The flow our billing plays: customer, card, invoice, charge, decline, mended card, paid."""

from __future__ import annotations

import pytest
import stripe

from billing.payments.simulator import Simulator, enter_card
from tests.billing.payments.simulator.conftest import SUCCESS_URL, issued, kinds


def test_a_card_is_saved_on_checkout_and_charged_by_an_invoice(
    client: stripe.StripeClient, simulator: Simulator
) -> None:
    customer = client.v1.customers.create({"name": "Ada", "metadata": {"customer": "cust_1"}})
    session = client.v1.checkout.sessions.create(
        {
            "mode": "setup",
            "customer": customer.id,
            "client_reference_id": "cust_1",
            "metadata": {"plan": "pro"},
            "setup_intent_data": {"metadata": {"customer": "cust_1"}},
            "success_url": SUCCESS_URL,
            "cancel_url": "https://farebox.test/back",
        }
    )
    assert session.url is not None
    assert enter_card(session.url) == f"https://farebox.test/done?session={session.id}"
    assert {"payment_method.attached", "setup_intent.succeeded"} <= set(kinds(simulator))
    (completed,) = simulator.events("checkout.session.completed")
    told = completed["data"]["object"]
    assert told["client_reference_id"] == "cust_1"
    assert told["metadata"] == {"plan": "pro"}
    assert told["status"] == "complete"
    setup = client.v1.setup_intents.retrieve(told["setup_intent"])
    assert setup.metadata is not None
    assert setup.metadata["customer"] == "cust_1"
    client.v1.customers.update(
        customer.id, {"invoice_settings": {"default_payment_method": str(setup.payment_method)}}
    )

    draft = client.v1.invoices.create(
        {
            "customer": customer.id,
            "currency": "eur",
            "auto_advance": False,
            "pending_invoice_items_behavior": "exclude",
            "metadata": {"invoice": "inv_1"},
        },
        {"idempotency_key": "b:1:inv:1"},
    )
    client.v1.invoices.add_lines(
        draft.id,
        {"lines": [{"amount": 2900, "description": "pro"}, {"amount": 101, "description": "over"}]},
        {"idempotency_key": "b:1:lines:0:1"},
    )
    read = client.v1.invoices.retrieve(draft.id)
    lines = client.v1.invoices.line_items.list(draft.id)
    assert (read.total, read.currency, read.status) == (3001, "eur", "draft")
    assert [line.amount for line in lines.data] == [2900, 101]
    before = len(simulator.events())
    answer = client.v1.invoices.finalize_invoice(
        draft.id, {"auto_advance": True}, {"idempotency_key": "b:1:fin:1"}
    )
    assert answer.status == "open"
    assert answer.number is not None
    assert answer.hosted_invoice_url

    paid = client.v1.invoices.retrieve(draft.id)
    assert (paid.status, paid.amount_paid, paid.attempt_count) == ("paid", 3001, 1)
    events = simulator.events()[before:]
    assert [event["type"] for event in events] == [
        "invoice.finalized",
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "invoice_payment.paid",
        "invoice.paid",
        "invoice.payment_succeeded",
    ]
    assert events[0]["request"]["idempotency_key"] == "b:1:fin:1"
    assert events[5]["request"]["idempotency_key"] is None
    assert all(event["api_version"] == "2026-10-28.endive" for event in events)
    (payment,) = client.v1.invoice_payments.list({"invoice": draft.id}).data
    assert (payment.status, payment.amount_paid) == ("paid", 3001)


def test_a_declined_invoice_is_mended_through_the_portal_and_paid(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    session = client.v1.checkout.sessions.create(
        {"mode": "setup", "customer": customer.id, "success_url": SUCCESS_URL}
    )
    enter_card(session.url or "", "4000 0000 0000 0341")
    (method,) = client.v1.payment_methods.list({"customer": customer.id}).data
    client.v1.customers.update(
        customer.id, {"invoice_settings": {"default_payment_method": method.id}}
    )
    invoice = issued(client, customer, 5000)
    assert (invoice.status, invoice.attempt_count, invoice.amount_paid) == ("open", 1, 0)
    assert invoice.next_payment_attempt is not None
    (failed,) = simulator.events("invoice.payment_failed")
    assert failed["data"]["object"]["next_payment_attempt"] == invoice.next_payment_attempt

    portal = client.v1.billing_portal.sessions.create(
        {"customer": customer.id, "return_url": "https://farebox.test/billing"}
    )
    assert enter_card(portal.url, "4242424242424242") == portal.url
    mended = client.v1.customers.retrieve(customer.id)
    assert mended.invoice_settings is not None
    assert mended.invoice_settings.default_payment_method != method.id
    paid = client.v1.invoices.pay(invoice.id, {"off_session": True})
    assert (paid.status, paid.amount_paid, paid.attempt_count) == ("paid", 5000, 2)
    assert paid.next_payment_attempt is None
    with pytest.raises(stripe.InvalidRequestError, match="already paid"):
        client.v1.invoices.pay(invoice.id)
    assert len(simulator.all("charge")) == 2


def test_the_hosted_invoice_page_pays_too(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    invoice = issued(client, customer, 5000)
    assert (invoice.status, invoice.attempt_count) == ("open", 1)
    assert invoice.hosted_invoice_url is not None
    with pytest.raises(ValueError, match="declined"):
        enter_card(invoice.hosted_invoice_url, "4000000000000002")
    assert enter_card(invoice.hosted_invoice_url) == invoice.hosted_invoice_url
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"
    assert simulator.events("invoice.paid")
