"""Credits of customers: what there is, and what a bill can use."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db.models import F, QuerySet

from billing.domain.credits import AvailableCredit
from billing.models import Credit
from billing.queries.peers import Peers


def credits_of(customer_id: int | None = None) -> QuerySet[Credit]:
    """All of them, or a customer's, newest first, used up and expired ones included."""
    found = Credit.objects.order_by("-id")
    return found if customer_id is None else found.filter(customer_id=customer_id)


def credits_left(customer_id: int) -> QuerySet[Credit]:
    """Those of which something is left, in the order in which they are used."""
    found = Credit.objects.filter(customer_id=customer_id, amount__gt=F("used") + F("expired"))
    return found.order_by(
        "currency", "priority", F("expires_at").asc(nulls_last=True), "granted_at", "id"
    )


def usable_credits(
    customer_id: int, *, currency: str, end_at: datetime, peers: Peers
) -> list[AvailableCredit]:
    """What the bill of a period that ends at `end_at` can use."""
    found = [
        AvailableCredit(each.pk, each.left, each.priority, each.expires_at, each.granted_at)
        for each in peers.ask(_credits_of, customer_id) or ()
        if each.currency == currency
    ]
    return [each for each in found if each.covers(end_at)]


def credit_available(customer_id: int, *, currency: str, end_at: datetime, peers: Peers) -> int:
    """The sum of :func:`usable_credits`, in minor units."""
    usable = usable_credits(customer_id, currency=currency, end_at=end_at, peers=peers)
    return sum(each.left for each in usable)


def _credits_of(customer_ids: Sequence[int]) -> dict[int, list[Credit]]:
    """The credits of customers of which something is left."""
    found: dict[int, list[Credit]] = {}
    rows = Credit.objects.filter(customer_id__in=customer_ids, amount__gt=F("used") + F("expired"))
    for each in rows:
        found.setdefault(each.customer_id, []).append(each)
    return found
