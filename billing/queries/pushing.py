"""How far the invoices are on their way to Stripe."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Count, Q

from billing.models import Invoice

Push = Invoice.Push


def push_states(*, at: datetime) -> dict[str, int]:
    """How many invoices are `pushed` in all, `due` to be at `at`, to be tried `later`, and
    `quarantined`."""
    pending = Q(push=Push.PENDING)
    found: dict[str, int] = Invoice.objects.exclude(push=Push.NONE).aggregate(
        pushed=Count("pk", filter=Q(push=Push.PUSHED)),
        due=Count("pk", filter=pending & Q(next_push_at__lte=at)),
        later=Count("pk", filter=pending & Q(next_push_at__gt=at)),
        quarantined=Count("pk", filter=Q(push=Push.QUARANTINED)),
    )
    return found
