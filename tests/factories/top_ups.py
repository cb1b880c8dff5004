"""Top-ups as they come about and as Stripe would tell what became of them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from accounts.models import Customer
from billing.domain.top_ups import AutoTopUpTerms
from billing.models import AutoTopUp, Invoice, Wallet
from billing.operations import collecting, topping_up
from tests.factories.billing import ACTOR, a_plan, a_subscription, bill

NOW = datetime(2026, 11, 2, tzinfo=UTC)
TERMS = AutoTopUpTerms(threshold=1_000, amount=2_000, monthly_cap=5_000)


def begin(customer: Customer, amount: int = 2_500, *, now: datetime = NOW) -> Invoice:
    return topping_up.begin_top_up(customer.pk, amount=amount, actor=ACTOR, now=now)


def automatic(
    customer: Customer, terms: AutoTopUpTerms = TERMS, *, now: datetime = NOW
) -> AutoTopUp:
    """Terms of a customer who is subscribed: others are not topped up by themselves."""
    subscribed(customer, now=now)
    return topping_up.set_auto_top_up(customer.pk, terms=terms, actor=ACTOR, now=now)


def subscribed(customer: Customer, *, now: datetime = NOW) -> None:
    """Subscribe the customer to something free, unless it is subscribed."""
    if not customer.subscriptions.exclude(status="canceled").exists():
        free = a_plan(fee=0, currency=customer.currency)
        a_subscription(free, customer=customer, card=False, start_at=now, now=now)


def leave(customer: Customer) -> None:
    """End what the customer is subscribed to."""
    customer.subscriptions.update(status="canceled")


def due(now: datetime = NOW) -> int:
    return topping_up.top_up_due(now=now, limit=10)


def pushed(top_up: Invoice) -> Invoice:
    return collecting.mark_pushed(top_up.pk, stripe_invoice=f"in_{top_up.pk}", now=NOW)


def paid(top_up: Invoice, *, now: datetime = NOW) -> Invoice:
    return collecting.mark_paid(
        top_up.pk, amount_paid=top_up.total, reference=f"pi_{top_up.pk}", now=now
    )


def declined(top_up: Invoice, *, now: datetime = NOW) -> Invoice:
    return collecting.mark_payment_failed(top_up.pk, attempt=1, code="card_declined", now=now)


def spend(customer: Customer, amount: int) -> None:
    """Draw on the wallet as an invoice would, of another subscription from now on."""
    leave(customer)
    invoice = bill(a_subscription(a_plan(fee=amount), customer=customer, card=False), now=NOW)
    assert invoice.status == "paid"


def balance(customer: Customer) -> Decimal:
    return Wallet.objects.get(customer=customer).balance
