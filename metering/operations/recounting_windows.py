"""Windows of meters that do not add up, counted anew from the events that are in force.

What a reading took away cannot be told from it alone: without it another one may be the greatest or
the latest, or the only one that names a member. So the hours of the corrected events and the
windows they lie in are made anew, and grants pay what the window needs of them then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db import connection
from django.db.models import Max

from metering import statements
from metering.domain.account import Account, BalanceKey
from metering.domain.meters import Aggregation
from metering.domain.spans import HOUR, hour_after, hour_of
from metering.domain.windows import RATE_UNITS
from metering.models import Balance, EffectiveEvent, Rollup
from metering.models.hours import occurred_within
from metering.operations.repaying import LONG_AGO, Touched, Window, release, settle
from metering.operations.rerolling import SPAN_MAX, reroll
from metering.queries.retention import gone_before
from metering.queries.usage import UsageOf, refuse_what_is_gone, usage_total, usage_totals


class Count(NamedTuple):
    """What a window's events come to; `latest_at` of a meter that keeps the latest reading."""

    used: int
    latest_at: datetime | None

    @property
    def begun(self) -> bool:
        """Whether there is something to keep: a latest reading may be of nothing."""
        return bool(self.used) or self.latest_at is not None


def count_window(
    customer_id: int, *, key: BalanceKey, kind: Aggregation, end_at: datetime
) -> Count:
    """Count a window from its events; of a unique meter its members are made anew with it.

    The caller has raised the customer's version. Raises EventsGone.
    """
    meter_id, unit, start_at = key
    from_at = LONG_AGO if unit == "lifetime" else start_at
    if kind is Aggregation.UNIQUE:
        first, last = hour_after(from_at), hour_of(end_at)
        with connection.cursor() as cursor:
            cursor.execute(
                statements.load("remake_members"),
                {
                    "customer_id": customer_id,
                    "meter_id": meter_id,
                    "window": unit,
                    "start_at": start_at,
                    "from_at": from_at,
                    "end_at": end_at,
                    "whole_from": first,
                    "whole_to": last,
                },
            )
            (members,) = cursor.fetchone()
        # After the statement: what was dropped in between is known only then.
        refuse_what_is_gone([(from_at, min(first, end_at)), (max(last, first), end_at)])
        return Count(int(members), None)
    used = usage_total(customer_id, meter_id=meter_id, start_at=from_at, end_at=end_at)
    if kind is not Aggregation.LATEST:
        return Count(used, None)
    here = {"customer_id": customer_id, "usage__has_key": str(meter_id)}
    happened = EffectiveEvent.objects.filter(occurred_within(from_at, end_at), **here).aggregate(
        at=Max("occurred_at")
    )["at"]
    if happened is None:  # the events may have been dropped; whole hours are kept
        happened = Rollup.objects.filter(
            customer_id=customer_id,
            meter_id=meter_id,
            start_at__gte=from_at,
            start_at__lt=hour_of(end_at),
        ).aggregate(at=Max("latest_at"))["at"]
    return Count(used, happened)


def count_windows(
    customer_id: int, wanted: Mapping[BalanceKey, tuple[Aggregation, datetime]]
) -> dict[BalanceKey, Count]:
    """`count_window` of each, given with its meter's kind and its end; of the ones that add up a
    thousand by one statement.

    The caller has raised the customer's version. Raises EventsGone.
    """
    found: dict[BalanceKey, Count] = {}
    spans: dict[BalanceKey, UsageOf] = {}
    for key, (kind, end_at) in wanted.items():
        if kind.adds_up:
            meter_id, unit, start_at = key
            from_at = LONG_AGO if unit == "lifetime" else start_at
            spans[key] = UsageOf(customer_id, meter_id, from_at, end_at)
        else:
            found[key] = count_window(customer_id, key=key, kind=kind, end_at=end_at)
    totals = usage_totals(spans.values())
    return found | {key: Count(totals[span], None) for key, span in spans.items()}


def is_done_with(
    key: BalanceKey, *, end_at: datetime, gone: datetime | None, now: datetime
) -> bool:
    """Whether a window is not counted any more: it is of an hour or less and over, and its events
    may have been dropped, which those before `gone` were.

    Any other is counted also when it is over: a late event may begin it yet, and counts on from
    what is there.
    """
    return key[1] in RATE_UNITS and end_at <= now and gone is not None and key[2] < gone


def count_anew(
    account: Account,
    *,
    touched: Sequence[Touched],
    hours: Iterable[tuple[int, datetime]],
    now: datetime,
) -> None:
    """Make the hours, and the windows that the corrected events lie in, anew.

    After the corrections were written; the caller has raised the customer's version. Where grants
    had paid for an event that no longer needs it, they pay for the window's others if those do.
    Raises RangeInvalid and EventsGone where events were dropped that it would be made of.
    """
    _make_hours(account.customer_id, hours)
    windows = _windows(account, touched)
    gone = gone_before()
    for window in windows:
        if not is_done_with(window.key, end_at=window.end_at, gone=gone, now=now):
            _write_window(account, window, now=now)
    for each in touched:
        if not any(window.burns and each in window.touched for window in windows):
            release(account, each)


def _make_hours(customer_id: int, hours: Iterable[tuple[int, datetime]]) -> None:
    """Re-roll, in spans of hours that follow one another closely."""
    by_meter: dict[int, list[datetime]] = {}
    for meter_id, hour in sorted(hours):
        by_meter.setdefault(meter_id, []).append(hour)
    for meter_id, found in by_meter.items():
        spans = [[found[0], found[0]]]
        for hour in found[1:]:
            first, last = spans[-1]
            if hour - last > HOUR or hour - first >= SPAN_MAX:
                spans.append([hour, hour])
            spans[-1][1] = hour
        for first, last in spans:
            reroll(customer_id, meter_ids=[meter_id], start_at=first, end_at=last + HOUR)


def _windows(account: Account, touched: Iterable[Touched]) -> list[Window]:
    found: dict[BalanceKey, Window] = {}
    for each in touched:
        for terms in account.terms.get(each.meter_id, ()):
            start_at, end_at = account.window(terms, at=each.at)
            if not terms.counts((start_at, end_at)):
                continue
            key = (each.meter_id, terms.window, start_at)
            window = found.setdefault(key, Window(terms, key, end_at, each.kind, []))
            window.touched.append(each)
    return list(found.values())


def _write_window(account: Account, window: Window, *, now: datetime) -> None:
    """Write what it comes to. The caller has raised the customer's version."""
    meter_id, unit, start_at = window.key
    counted = count_window(
        account.customer_id, key=window.key, kind=window.kind, end_at=window.end_at
    )
    row = Balance.objects.filter(
        customer_id=account.customer_id, meter_id=meter_id, window=unit, start_at=start_at
    )
    paid = settle(account, window, used=counted.used, now=now) if window.burns else 0
    values = {"used": counted.used, "latest_at": counted.latest_at, "grant_used": paid}
    if not row.update(**values) and counted.begun:
        Balance.objects.create(
            customer_id=account.customer_id,
            meter_id=meter_id,
            window=unit,
            start_at=start_at,
            end_at=window.end_at,
            **values,
        )
