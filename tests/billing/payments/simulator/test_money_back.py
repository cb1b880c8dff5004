"""Refunds, credit notes and disputes."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from billing.payments.simulator import Simulator
from tests.billing.payments.simulator.conftest import draft, issued, kinds, with_card


def charge_of(client: stripe.StripeClient, invoice: stripe.Invoice) -> stripe.Charge:
    (payment,) = client.v1.invoice_payments.list({"invoice": invoice.id, "status": "paid"}).data
    intent = client.v1.payment_intents.retrieve(str(payment.payment.payment_intent))
    found = client.v1.invoice_payments.list(
        {"payment": {"type": "payment_intent", "payment_intent": intent.id}}
    )
    assert found.data[0].invoice == invoice.id
    assert client.v1.invoice_payments.retrieve(payment.id).id == payment.id
    return client.v1.charges.retrieve(str(intent.latest_charge))


def test_refunds_never_exceed_the_charge(
    client: stripe.StripeClient, simulator: Simulator, payer: stripe.Customer
) -> None:
    charge = charge_of(client, issued(client, payer, 1000))
    part = client.v1.refunds.create(
        {"charge": charge.id, "amount": 400, "reason": "requested_by_customer"}
    )
    assert (part.amount, part.status) == (400, "succeeded")
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded"):
        client.v1.refunds.create({"charge": charge.id, "amount": 601})
    rest = client.v1.refunds.create({"payment_intent": str(charge.payment_intent)})
    assert rest.amount == 600
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"charge": charge.id})
    assert refused.value.code == "charge_already_refunded"
    after = client.v1.charges.retrieve(charge.id, {"expand": ["refunds"]})
    assert (after.refunded, after.amount_refunded) == (True, 1000)
    assert after.refunds is not None
    assert len(after.refunds.data) == 2
    assert client.v1.balance.retrieve().available[0].amount == 0
    assert kinds(simulator).count("charge.refunded") == 2
    named = client.v1.refunds.update(rest.id, {"metadata": {"ticket": "9"}})
    assert named.metadata is not None
    assert client.v1.refunds.retrieve(part.id).amount == 400
    assert len(client.v1.refunds.list({"charge": charge.id}).data) == 2


def test_a_credit_note_lowers_an_open_invoice(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    invoice = issued(client, customer, 1000)
    note = client.v1.credit_notes.create(
        {"invoice": invoice.id, "amount": 300, "reason": "duplicate", "memo": "sorry"}
    )
    assert (note.type, note.number) == ("pre_payment", f"{invoice.number}-CN-01")
    assert client.v1.invoices.retrieve(invoice.id).amount_remaining == 700
    client.v1.credit_notes.void_credit_note(note.id)
    assert client.v1.invoices.retrieve(invoice.id).amount_remaining == 1000
    client.v1.credit_notes.create({"invoice": invoice.id, "amount": 400})
    with_card(client, customer, "pm_card_visa")
    assert client.v1.invoices.pay(invoice.id).amount_paid == 600
    assert [c["amount"] for c in simulator.all("charge") if c["paid"]] == [600]


def test_a_credit_note_over_everything_settles_an_open_invoice(
    client: stripe.StripeClient, customer: stripe.Customer
) -> None:
    invoice = issued(client, customer, 1000)
    lines: Any = [{"type": "custom_line_item", "description": "all", "unit_amount": 500}]
    lines[0]["quantity"] = 2
    client.v1.credit_notes.create({"invoice": invoice.id, "lines": lines})
    after = client.v1.invoices.retrieve(invoice.id)
    assert (after.status, after.amount_paid) == ("paid", 0)


def test_a_credit_note_on_a_paid_invoice_gives_money_back(
    client: stripe.StripeClient, simulator: Simulator, payer: stripe.Customer
) -> None:
    invoice = issued(client, payer, 1000)
    with pytest.raises(stripe.InvalidRequestError, match="The sum of"):
        client.v1.credit_notes.create({"invoice": invoice.id, "amount": 500})
    note = client.v1.credit_notes.create(
        {"invoice": invoice.id, "amount": 500, "refund_amount": 300, "credit_amount": 200}
    )
    assert note.post_payment_amount == 500
    assert note.refunds[0].amount_refunded == 300
    assert [refund["amount"] for refund in simulator.all("refund")] == [300]
    assert client.v1.customers.retrieve(payer.id).balance == -200
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"
    with pytest.raises(stripe.InvalidRequestError, match="cannot exceed"):
        client.v1.credit_notes.create({"invoice": invoice.id, "amount": 501, "refund_amount": 501})
    assert len(client.v1.credit_notes.list({"invoice": invoice.id}).data) == 1
    assert client.v1.credit_notes.retrieve(note.id).amount == 500


def test_drafts_take_no_credit_note(client: stripe.StripeClient, payer: stripe.Customer) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="draft"):
        client.v1.credit_notes.create({"invoice": draft(client, payer, 1000).id, "amount": 1})


@pytest.mark.parametrize(
    ("evidence", "status"), [("winning_evidence", "won"), ("losing_evidence", "lost")]
)
def test_a_dispute_is_decided(
    client: stripe.StripeClient,
    simulator: Simulator,
    customer: stripe.Customer,
    evidence: str,
    status: str,
) -> None:
    with_card(client, customer, "pm_card_createDispute")
    invoice = issued(client, customer, 1000)
    assert invoice.status == "paid"
    (dispute,) = client.v1.disputes.list().data
    assert dispute.status == "needs_response"
    charge = charge_of(client, invoice)
    assert (dispute.charge, charge.disputed) == (charge.id, True)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.refunds.create({"charge": charge.id})
    client.v1.disputes.update(dispute.id, {"evidence": {"product_description": "calls"}})
    decided = client.v1.disputes.update(dispute.id, {"evidence": {"uncategorized_text": evidence}})
    assert decided.status == status
    assert "charge.dispute.closed" in kinds(simulator)
    assert ("charge.dispute.funds_reinstated" in kinds(simulator)) == (status == "won")
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.disputes.close(dispute.id)


def test_a_dispute_can_be_accepted(client: stripe.StripeClient, customer: stripe.Customer) -> None:
    with_card(client, customer, "pm_card_createDispute")
    issued(client, customer, 1000)
    (dispute,) = client.v1.disputes.list().data
    assert client.v1.disputes.close(dispute.id).status == "lost"
    assert client.v1.disputes.retrieve(dispute.id).status == "lost"
