"""The invoice state machine."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
import stripe

from billing.payments.simulator import Simulator
from tests.billing.payments.simulator.conftest import draft, issued, kinds


def test_numbers_count_up_per_customer(client: stripe.StripeClient, payer: stripe.Customer) -> None:
    first, second = issued(client, payer, 1000), issued(client, payer, 1000)
    assert first.number is not None
    assert second.number is not None
    assert first.number.endswith("-0001")
    assert second.number == first.number[:-1] + "2"


def test_a_draft_can_be_changed_and_deleted(
    client: stripe.StripeClient, simulator: Simulator, payer: stripe.Customer
) -> None:
    invoice = draft(client, payer, 1000, 2000)
    changed = client.v1.invoices.update(
        invoice.id, {"description": "May", "metadata": {"invoice": "", "step": "2"}}
    )
    assert changed.description == "May"
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"step": "2"}
    line = client.v1.invoices.line_items.list(invoice.id, {"limit": 1}).data[0]
    client.v1.invoices.remove_lines(invoice.id, {"lines": [{"id": line.id, "behavior": "delete"}]})
    assert client.v1.invoices.retrieve(invoice.id).total == 2000
    assert client.v1.invoices.delete(invoice.id).deleted
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.invoices.retrieve(invoice.id)
    assert refused.value.http_status == 404
    assert simulator.all("line_item") == []
    assert simulator.all("invoiceitem") == []


def test_an_issued_invoice_is_frozen(
    client: stripe.StripeClient, customer: stripe.Customer
) -> None:
    invoice = draft(client, customer, 1000)
    client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": False})
    changes: tuple[Callable[[], object], ...] = (
        lambda: client.v1.invoices.add_lines(invoice.id, {"lines": [{"amount": 1}]}),
        lambda: client.v1.invoices.finalize_invoice(invoice.id),
        lambda: client.v1.invoices.delete(invoice.id),
        lambda: client.v1.invoices.update(invoice.id, {"footer": "late"}),
    )
    for change in changes:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            change()
        assert refused.value.code == "invoice_not_editable"
    after = client.v1.invoices.retrieve(invoice.id)
    assert (after.total, after.status, after.attempt_count) == (1000, "open", 0)


def test_void_and_uncollectible(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    invoice = draft(client, customer, 1000)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.void_invoice(invoice.id)
    client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": True})
    written_off = client.v1.invoices.mark_uncollectible(invoice.id)
    assert (written_off.status, written_off.next_payment_attempt) == ("uncollectible", None)
    voided = client.v1.invoices.void_invoice(invoice.id)
    assert voided.status == "void"
    assert voided.status_transitions.voided_at is not None
    assert simulator.all("payment_intent")[0]["status"] == "canceled"
    with pytest.raises(stripe.InvalidRequestError, match="voided"):
        client.v1.invoices.pay(invoice.id)
    assert kinds(simulator)[-3:] == [
        "invoice.marked_uncollectible",
        "payment_intent.canceled",
        "invoice.voided",
    ]


def test_a_written_off_invoice_can_still_be_paid(
    client: stripe.StripeClient, customer: stripe.Customer
) -> None:
    invoice = issued(client, customer, 1000)
    client.v1.invoices.mark_uncollectible(invoice.id)
    method = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    paid = client.v1.invoices.pay(invoice.id, {"payment_method": method.id})
    assert paid.status == "paid"


def test_an_invoice_over_nothing_is_paid_at_once(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    invoice = issued(client, customer, 1000, -1000)
    assert (invoice.status, invoice.amount_paid, invoice.attempt_count) == ("paid", 0, 0)
    assert simulator.all("payment_intent") == []


def test_less_than_the_minimum_moves_to_the_balance(
    client: stripe.StripeClient, simulator: Simulator, payer: stripe.Customer
) -> None:
    small = issued(client, payer, 49)
    assert (small.status, small.amount_due, small.amount_paid) == ("paid", 0, 0)
    assert client.v1.customers.retrieve(payer.id).balance == 49
    assert simulator.all("charge") == []
    large = issued(client, payer, 1000)
    assert (large.starting_balance, large.amount_paid) == (49, 1049)
    assert client.v1.customers.retrieve(payer.id).balance == 0


def test_a_negative_invoice_credits_the_customer(
    client: stripe.StripeClient, payer: stripe.Customer
) -> None:
    credit = issued(client, payer, -300)
    assert (credit.status, credit.total, credit.amount_due) == ("paid", -300, 0)
    assert client.v1.customers.retrieve(payer.id).balance == -300
    assert issued(client, payer, 1000).amount_paid == 700


def test_paid_out_of_band(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    invoice = draft(client, customer, 1000)
    client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": False})
    paid = client.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})
    assert (paid.status, paid.amount_paid, paid.amount_remaining) == ("paid", 1000, 0)
    assert simulator.all("charge") == []


def test_pay_without_a_card_changes_nothing(
    client: stripe.StripeClient, simulator: Simulator, customer: stripe.Customer
) -> None:
    invoice = draft(client, customer, 1000)
    client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": False})
    before = len(simulator.events())
    with pytest.raises(stripe.InvalidRequestError, match="no attached payment source"):
        client.v1.invoices.pay(invoice.id)
    assert client.v1.invoices.retrieve(invoice.id).attempt_count == 0
    assert len(simulator.events()) == before


def test_invoice_items_wait_for_the_next_invoice(
    client: stripe.StripeClient, payer: stripe.Customer
) -> None:
    client.v1.invoice_items.create(
        {"customer": payer.id, "amount": 700, "currency": "usd", "description": "late"}
    )
    assert draft(client, payer).total == 0
    invoice = client.v1.invoices.create(
        {"customer": payer.id, "currency": "usd", "pending_invoice_items_behavior": "include"}
    )
    assert invoice.total == 700
    item = client.v1.invoice_items.create(
        {
            "customer": payer.id,
            "invoice": invoice.id,
            "currency": "usd",
            "quantity_decimal": Decimal(3),
            "price_data": {
                "currency": "usd",
                "product": client.v1.products.create({"name": "calls"}).id,
                "unit_amount_decimal": Decimal("0.5"),
            },
        }
    )
    assert item.amount == 2
    assert client.v1.invoices.retrieve(invoice.id).total == 702
    client.v1.invoice_items.delete(item.id)
    assert client.v1.invoices.retrieve(invoice.id).total == 700


def test_lines_come_in_order_and_in_pages(
    client: stripe.StripeClient, payer: stripe.Customer
) -> None:
    invoice = draft(client, payer, *range(100, 125))
    assert len(invoice.lines.data) == 10
    assert invoice.lines.has_more
    pages = client.v1.invoices.line_items.list(invoice.id, {"limit": 7})
    assert [line.amount for line in pages.auto_paging_iter()] == list(range(100, 125))


def test_a_draft_that_advances_issues_itself_after_an_hour(
    client: stripe.StripeClient, simulator: Simulator, payer: stripe.Customer
) -> None:
    invoice = draft(client, payer, 1000)
    client.v1.invoices.update(invoice.id, {"auto_advance": True})
    simulator.advance(3500)
    assert client.v1.invoices.retrieve(invoice.id).status == "draft"
    simulator.advance(200)
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"


def test_sent_invoices_are_not_charged(
    client: stripe.StripeClient, simulator: Simulator, payer: stripe.Customer
) -> None:
    invoice = client.v1.invoices.create(
        {
            "customer": payer.id,
            "currency": "usd",
            "collection_method": "send_invoice",
            "days_until_due": 14,
        }
    )
    client.v1.invoices.add_lines(invoice.id, {"lines": [{"amount": 1000}]})
    sent = client.v1.invoices.send_invoice(invoice.id)
    assert (sent.status, sent.attempt_count) == ("open", 0)
    assert sent.due_date is not None
    assert sent.due_date - simulator.now() > 13 * 86_400
    assert kinds(simulator)[-1] == "invoice.sent"


def test_lists_filter_by_customer_status_and_time(
    client: stripe.StripeClient, simulator: Simulator, payer: stripe.Customer
) -> None:
    other = client.v1.customers.create({"name": "Bob"})
    first = issued(client, payer, 1000)
    simulator.advance(100)
    second = draft(client, payer, 1000)
    draft(client, other, 1000)
    listed = client.v1.invoices.list({"customer": payer.id})
    assert [invoice.id for invoice in listed.data] == [second.id, first.id]
    since = {"created": {"gte": first.created + 50}, "customer": payer.id}
    assert [i.id for i in client.v1.invoices.list(since).data] == [second.id]  # type: ignore[arg-type]
    assert [i.id for i in client.v1.invoices.list({"status": "paid"}).data] == [first.id]
    pages = client.v1.invoices.list({"limit": 1})
    assert pages.has_more
    assert len(list(pages.auto_paging_iter())) == 3
