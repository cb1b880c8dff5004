"""What must hold at Stripe and here, whatever went wrong on the way."""

from __future__ import annotations

from datetime import datetime, timedelta

from billing.models import Invoice
from billing.payments.pushing import push_due
from billing.payments.simulator import Simulator


def push_until_settled(invoice: Invoice, *, now: datetime, rounds: int = 60) -> datetime:
    """Look at due invoices every ten minutes until this one waits no more; when that was."""
    for _ in range(rounds):
        push_due(now=now, limit=10)
        invoice.refresh_from_db()
        if invoice.push != Invoice.Push.PENDING:
            return now
        now += timedelta(minutes=10)
    raise AssertionError(f"{invoice} still waits after {rounds} rounds: {invoice.push_problem}")


def assert_one_right_invoice(simulator: Simulator, invoice: Invoice) -> None:
    """One invoice at Stripe, equal to ours line by line, and finalized."""
    invoice.refresh_from_db()
    found = stripe_invoice_of(simulator, invoice)
    assert invoice.push == Invoice.Push.PUSHED
    assert invoice.stripe_invoice == found["id"]
    assert (found["total"], found["currency"]) == (invoice.total, invoice.currency)
    assert found["status"] in ("open", "paid")
    on_it = [line for line in simulator.all("line_item") if line["invoice"] == found["id"]]
    ours = {line.public_id: line for line in invoice.lines.all()}
    assert len(on_it) == len(ours)
    for line in on_it:
        mine = ours[line["metadata"]["farebox_line"]]
        assert (line["amount"], line["id"]) == (mine.amount, mine.stripe_line)


def stripe_invoice_of(simulator: Simulator, invoice: Invoice) -> dict[str, object]:
    """The only invoice at Stripe that is ours, whatever its status."""
    (found,) = [
        each
        for each in simulator.all("invoice")
        if each["metadata"].get("farebox_invoice") == invoice.public_id
    ]
    return found
