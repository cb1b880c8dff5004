"""The invariants of metering, checked where they matter: in production."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from django.db import connection, transaction

from accounts.domain import ids
from accounts.models import Customer, CustomerVersion
from metering import statements
from metering.domain.spans import hour_of, month_of
from metering.domain.windows import anchored_window
from metering.models import Fault
from metering.queries.retention import gone_before

log = structlog.get_logger(__name__)
INVARIANTS = ("I1", "I2", "I3", "I4")
LOOK_BACK = timedelta(days=7)
_TICK_S = 300
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Broken:
    """One thing that is not as it must be."""

    invariant: str  # I1 … I4 of docs/architecture.md
    customer_id: int
    detail: str


def broken_invariants(
    *,
    now: datetime,
    customer_ids: Sequence[int] | None = None,
    since: datetime | None = None,
    limit: int = 200,
) -> list[Broken]:
    """What is wrong with these customers' metering; nothing, if all is well. Changes nothing.

    Without `customer_ids` it takes `limit` customers, others every five minutes, so that all have
    their turn. Each invariant is compared within one snapshot, so calls that are answered
    meanwhile are no faults. I1 used = Σ events of the window; I2 no grant gives more than it has;
    I3 held = Σ open holds; I4 Σ rollups + Σ waiting batches = Σ events, days are made of hours and
    months of days. Windows and hours that
    ended before `since` (7 days ago) are not looked at, nor those whose events were dropped.
    """
    gone = gone_before()
    whole = hour_of(max(since or now - LOOK_BACK, gone or _LONG_AGO))
    customers = list(customer_ids) if customer_ids is not None else _turn(now=now, limit=limit)
    asked = {
        "customers": customers,
        "since": whole,
        "now": now,
        "since_month": month_of(whole),
        "gone": gone,
    }
    return [*_used(asked), *_granted(asked), *_held(asked), *_rolled_up(asked), *_levels(asked)]


def check_invariants(*, now: datetime, limit: int) -> list[Broken]:
    """Check the `limit` customers whose turn it is; return, log and keep what is broken.

    A Fault goes when a later check finds it mended.
    """
    customers = _turn(now=now, limit=limit)
    found = broken_invariants(now=now, customer_ids=customers)
    with transaction.atomic():
        Fault.objects.filter(
            invariant__in=INVARIANTS, subject__in=[_subject(each) for each in customers]
        ).delete()
        Fault.objects.bulk_create(
            [
                Fault(
                    invariant=each.invariant,
                    subject=_subject(each.customer_id),
                    detail=each.detail[:500],
                    found_at=now,
                )
                for each in found
            ],
            ignore_conflicts=True,  # another worker may check at the same time
        )
    for each in found:
        subject = _subject(each.customer_id)
        log.error("invariant.broken", invariant=each.invariant, subject=subject, detail=each.detail)
    return found


def _subject(customer_id: int) -> str:
    return ids.encode(Customer.PREFIX, customer_id)


def _turn(*, now: datetime, limit: int) -> list[int]:
    """The customers whose turn it is at this time."""
    everyone = CustomerVersion.objects.order_by("customer_id").values_list("customer_id", flat=True)
    turns = max(-(-everyone.count() // limit), 1)
    first = int(now.timestamp()) // _TICK_S % turns * limit
    return list(everyone[first : first + limit])


def _used(asked: dict[str, Any]) -> Iterator[Broken]:
    for customer_id, meter_id, unit, anchor_at, start_at, end_at, used, counted in _rows(
        "check_used", asked
    ):
        # An earlier plan may have counted in other windows; nobody adds to those any more.
        if anchored_window(anchor_at, unit=unit, at=start_at) == (start_at, end_at):
            detail = f"meter {meter_id}, {unit} from {start_at}: used {used}, events {counted}"
            yield Broken("I1", customer_id, detail)


def _granted(asked: dict[str, Any]) -> Iterator[Broken]:
    for customer_id, meter_id, given, taken in _rows("check_rights", asked):
        detail = f"meter {meter_id}: grants say {given} are used, windows {taken}"
        yield Broken("I2", customer_id, detail)


def _held(asked: dict[str, Any]) -> Iterator[Broken]:
    for customer_id, place, held, counted in _rows("check_held", asked):
        yield Broken("I3", customer_id, f"{place}: held {held}, open holds {counted}")


def _rolled_up(asked: dict[str, Any]) -> Iterator[Broken]:
    for customer_id, meter_id, start_at, *sums in _rows("check_rollups", asked):
        bucketed, happened, buckets, events = sums
        detail = (
            f"meter {meter_id}, hour {start_at}: "
            f"buckets {bucketed} of {buckets} events, events {happened} of {events}"
        )
        yield Broken("I4", customer_id, detail)


def _levels(asked: dict[str, Any]) -> Iterator[Broken]:
    for customer_id, meter_id, level, start_at, *sums in _rows("check_levels", asked):
        made, due, events, due_events = sums
        detail = (
            f"meter {meter_id}, {level} of {start_at}: {made} of {events} events, "
            f"made of {due} of {due_events}"
        )
        yield Broken("I4", customer_id, detail)


def _rows(name: str, asked: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statements.load(name), asked)
        return list(cursor.fetchall())
