"""Plans, subscriptions and usage for tests of billing, made by the operations themselves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from accounts.models import Customer
from billing.models import Invoice, PlanVersion, Subscription
from billing.operations import catalogue, closing, collecting, issuing
from billing.operations.plan_shapes import VersionTerms
from billing.operations.subscribing import subscribe
from metering.models import Meter
from tests.factories.accounts import a_customer

START = datetime(2026, 10, 1, tzinfo=UTC)
NOW = datetime(2026, 10, 11, tzinfo=UTC)  # ten of October's 31 days later
ACTOR = "opk_test"
_numbers = itertools.count(1)

CENT_EACH: Mapping[str, object] = {"model": "per_unit", "unit_price": "0.01"}


def calls(
    meter: Meter,
    *,
    included: int = 1_000,
    price: Mapping[str, object] | None = CENT_EACH,
    **members: Any,
) -> dict[str, Any]:
    """A metered entitlement as the API takes it; billed past what is included unless price=None."""
    given: dict[str, Any] = {"meter": meter.key, "type": "metered", "included": included}
    if price is not None:
        given |= {"over": "bill", "price": price}
    return given | members


def a_plan(*entitlements: Mapping[str, Any], **members: Any) -> PlanVersion:
    """The active version of a new plan; $20 a month unless told otherwise."""
    key = members.pop("key", f"plan-{next(_numbers)}")
    named: dict[str, Any] = {"name": key.title(), "activate": True, "actor": ACTOR, "now": START}
    for name in ("name", "public", "family", "description", "activate", "now"):
        if name in members:
            named[name] = members.pop(name)
    terms: dict[str, Any] = {"fee": 2_000, **members, "entitlements": entitlements}
    return catalogue.create_plan(key=key, terms=VersionTerms(**terms), **named)


def a_subscription(
    version: PlanVersion | None = None,
    *,
    customer: Customer | None = None,
    card: bool = True,
    **members: Any,
) -> Subscription:
    """A subscription that began on October 1, of a customer with a card."""
    customer = customer or a_customer()
    if card:
        give_card(customer)
    version = version or a_plan()
    given: dict[str, Any] = {"start_at": START, "actor": ACTOR, "now": START, **members}
    return subscribe(customer.id, plan=version.plan.key, **given)


def give_card(customer: Customer, *, now: datetime = START) -> None:
    """The customer's payment method at Stripe."""
    collecting.payment_method_changed(
        customer.id,
        payment_method="pm_card_visa",
        brand="visa",
        last4="4242",
        stripe_customer=f"cus_stripe{customer.id}",
        now=now,
    )


def bill(subscription: Subscription, *, now: datetime) -> Invoice:
    """Close and issue what is due by `now`; the newest issued invoice of the subscription."""
    closing.close_due(now=now, limit=100)
    issuing.issue_due(now=now, limit=100)
    invoice = (
        Invoice.objects.filter(subscription=subscription)
        .exclude(status="draft")
        .order_by("-period_start_at")
        .first()
    )
    assert invoice is not None
    return invoice


def amounts(invoice: Invoice) -> list[tuple[str, int]]:
    """The lines of an invoice as (kind, amount)."""
    return [(line.kind, line.amount) for line in invoice.lines.order_by("position")]


def fresh(row: Any) -> Any:
    """The row as the database has it now."""
    return type(row).objects.get(pk=row.pk)
