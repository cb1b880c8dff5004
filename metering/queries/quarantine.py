"""Events in quarantine, and the bounds by which they are tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db.models import Count, F, Q, QuerySet, Sum

from accounts.models import Customer
from accounts.queries import customer_by_reference
from metering.domain.counting import TimeBounds
from metering.domain.refusals import CHOSEN_ONLY
from metering.models import QuarantinedEvent


@dataclass(frozen=True, slots=True)
class Filling:
    """How much waits in quarantine; `chosen`: how many of them are for a person to decide on."""

    events: int
    bytes: int
    chosen: int


def quarantined_events(
    *,
    state: str = QuarantinedEvent.State.WAITING,
    code: str | None = None,
    type_: str | None = None,
    source: str | None = None,
) -> QuerySet[QuarantinedEvent]:
    """The events that were refused and kept: all that wait, or those that are as asked."""
    asked = {"code": code, "type": type_, "source": source}
    given = {name: value for name, value in asked.items() if value is not None}
    return QuarantinedEvent.objects.filter(state=state, **given)


def filling() -> Filling:
    """How much waits."""
    found = quarantined_events().aggregate(
        events=Count("id"), bytes=Sum("size"), chosen=Count("id", filter=Q(code__in=CHOSEN_ONLY))
    )
    return Filling(found["events"], found["bytes"] or 0, found["chosen"])


def quarantined_of(customer: Customer) -> QuerySet[QuarantinedEvent]:
    """What was refused of a customer's, those first that wait, and then what went last."""
    names = [customer.public_id, *filter(None, [customer.external_id])]
    mine = Q(customer_id=customer.id) | Q(customer_id=None, subject__in=names)
    return QuarantinedEvent.objects.filter(mine).order_by(
        F("closed_at").desc(nulls_first=True), "-id"
    )


def refused_of(customer: Customer, *, state: str | None = None) -> QuerySet[QuarantinedEvent]:
    """What was refused of a customer's and kept, newest first; all, or what is in a state."""
    found = quarantined_of(customer).order_by("-id")
    return found if state is None else found.filter(state=state)


def in_quarantine(number: int) -> tuple[QuarantinedEvent, Customer | None] | None:
    """What was refused and kept under a number, and whose it is, as far as that is known."""
    row = QuarantinedEvent.objects.select_related("customer").filter(id=number).first()
    if row is None:
        return None
    return row, row.customer if row.customer_id else customer_by_reference(row.subject)


def what_is_kept() -> str:
    """What an operator is told who finds no event: when refused ones are kept, and how to have it.

    Nothing is stored of an event that was refused and not kept.
    """
    begin = "Refused events are kept only when the quarantine is on"
    if not settings.QUARANTINE_EVENTS:
        return (
            f"{begin}, and it is off: set FAREBOX_QUARANTINE_EVENTS to how many may wait, such as "
            "10000, and start web and gate anew. It keeps what is refused from then on."
        )
    return (
        f"{begin}, as it is now (FAREBOX_QUARANTINE_EVENTS is {settings.QUARANTINE_EVENTS}), while "
        f"there is room, for {settings.QUARANTINE_DAYS} days, and not for every reason: see "
        "Quarantine in docs/reporting.md."
    )


def event_bounds() -> TimeBounds:
    """The operator's bounds on the time of an event."""
    return TimeBounds(
        max_age=timedelta(days=settings.EVENT_MAX_AGE_DAYS),
        max_ahead=timedelta(seconds=settings.EVENT_MAX_AHEAD_S),
    )
