"""Customers whose invoices Stripe taxes: a customer in Berlin, an invoice, what was booked."""

from __future__ import annotations

from datetime import datetime, timedelta

from accounts.models import Customer
from billing.domain.ledger import Account
from billing.models import Invoice
from billing.operations.billing_details import set_billing_details
from billing.queries.ledger import account_balance
from tests.factories.billing import ACTOR, a_plan, a_subscription, bill

DAY = timedelta(days=1)
DEFAULTS = {"provider": "stripe", "tax_behavior": None, "tax_code": None}
ACTIVE = {"status": "active", "defaults": DEFAULTS | {"tax_behavior": "exclusive"}}
BERLIN = {"line1": "Allee 1", "postal_code": "10115", "city": "Berlin", "country": "DE"}


def live_in(customer: Customer, *, now: datetime, **more: str) -> None:
    set_billing_details(customer.id, details=BERLIN | more, actor=ACTOR, now=now)


def balance(customer: Customer, account: Account) -> int:
    return account_balance(customer.id, account=account, currency="usd")


def of_october(customer: Customer, now: datetime) -> Invoice:
    """An issued, posted invoice of $20, whose push is due."""
    return bill(a_subscription(a_plan(), customer=customer, card=False), now=now)
