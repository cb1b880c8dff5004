"""What past periods would have cost under another version of a plan.

Usage is read from rollups and rated by the code that bills; nothing is written. What customers
would have done under other prices nobody knows: the usage is what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db.models import Exists, OuterRef, Q, QuerySet

from billing.domain.periods import Period
from billing.models import Invoice, PlanVersion, SubscriptionPhase
from billing.queries.peers import Peers
from billing.queries.rated_periods import PeriodTerms, rated_periods
from billing.queries.spans import PeriodBasis, billed_spans


@dataclass(frozen=True, slots=True)
class SimulatedPeriod:
    """The period of one invoice: what it comes to as usage is known today, and what it would
    under the other version; fees, usage and minimum, in minor units."""

    invoice: Invoice
    before: int
    after: int


@dataclass(slots=True)
class SimulatedCustomer:
    """The same for all periods of a customer that were simulated."""

    customer: str
    name: str
    currency: str
    periods: int = 0
    before: int = 0
    after: int = 0


def simulated_invoices(
    version: PlanVersion,
    *,
    start_at: datetime,
    end_at: datetime,
    customer_ids: Sequence[int] | None = None,
    source: PlanVersion | None = None,
) -> QuerySet[Invoice]:
    """The invoices whose periods lie in `[start_at, end_at)` and can be rated under `version`:
    in its currency and interval, of subscriptions, not void; of some customers, or of those on
    `source`."""
    alike = SubscriptionPhase.objects.filter(
        Q(end_at=None) | Q(end_at__gt=OuterRef("period_start_at")),
        subscription=OuterRef("subscription"),
        start_at__lt=OuterRef("period_end_at"),
        version__interval=version.interval,
    )
    found = Invoice.objects.filter(
        Exists(alike),
        subscription__isnull=False,
        currency=version.currency,
        period_start_at__gte=start_at,
        period_end_at__lte=end_at,
    ).exclude(status=Invoice.Status.VOID)
    if customer_ids is not None:
        found = found.filter(customer_id__in=customer_ids)
    if source is not None:
        under = SubscriptionPhase.objects.filter(
            Q(version=source) | Q(version__base=source.sold_id),
            subscription=OuterRef("subscription"),
        )
        found = found.filter(Exists(under))
    return found.order_by("customer_id", "period_start_at", "id")


def simulated(version: PlanVersion, *, invoice: Invoice) -> SimulatedPeriod:
    """Rate the period of an invoice as it was and under `version`."""
    assert invoice.subscription_id is not None
    period = Period(invoice.period_start_at, invoice.period_end_at)
    basis = PeriodBasis.from_json(invoice.basis)
    peers = Peers([invoice.customer_id])
    stood = billed_spans(invoice.subscription_id, period=period, basis=basis, peers=peers)
    other = [
        replace(span, version=version, stood=tuple((at, version) for at, _ in span.stood))
        for span in stood
    ]
    asked = [PeriodTerms(invoice.customer_id, each, basis, period) for each in (stood, other)]
    before, after = (each.draft.total for each in rated_periods(asked, peers=peers))
    return SimulatedPeriod(invoice, before, after)
