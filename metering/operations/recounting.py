"""The books of one customer, changed for things that happened before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import F, QuerySet

from metering.domain.account import BalanceKey
from metering.domain.aggregates import Total, merged, total_of
from metering.domain.burndown import BalanceDelta, Deltas
from metering.domain.meters import Aggregation, MeterTerms, dimensions_of
from metering.domain.recounting import PaidBy, Usage, recount
from metering.domain.spans import hour_of
from metering.domain.windows import RATE_UNITS
from metering.models import Balance, Meter, UsageBatch, WindowMember
from metering.operations.recounting_windows import count_anew, count_windows, is_done_with
from metering.operations.repaying import Touched, write_grants
from metering.queries.meters import all_terms
from metering.queries.retention import gone_before
from metering.queries.standing import account_in, add_paying_balances


class Recounting:
    """Changes of what one customer's events count as: gathered, then written once.

    One transaction, in which the caller has raised the customer's version before making this and
    writes the events and corrections themselves before `write`. Balances, grants and buckets then
    follow exactly: used = Σ effective events, buckets = Σ effective events.
    """

    def __init__(self, customer_id: int, *, moments: Iterable[tuple[int, datetime]]) -> None:
        """`moments`: (meter id, when) of everything that will change."""
        chosen = list(moments)
        self._customer_id = customer_id
        self._account = account_in(customer_id, moments=chosen)
        add_paying_balances(self._account, moments=chosen)
        self._deltas = Deltas()
        self._meters: dict[int, list[MeterTerms]] = {}
        self._buckets: dict[tuple[int, datetime, str], Total] = {}
        self._hours: set[tuple[int, datetime]] = set()  # to be made anew from their events
        self._touched: list[Touched] = []

    def change(
        self,
        *,
        at: datetime,
        before: Usage,
        paid_by: PaidBy | None = None,
        properties_before: Mapping[str, Any] | None = None,
        after: Usage,
        properties: Mapping[str, Any] | None,
        event_id: UUID | None = None,
    ) -> dict[str, Any] | None:
        """Count an event of the moment `at` differently; returns who pays for it now.

        `event_id`: of the event that counted as `before`; a new one needs none. What that counted
        on meters that do not add up stays paid as it was until `write` has counted its windows.
        """
        self._bucket(at, before, properties_before, sign=-1)
        self._bucket(at, after, properties, sign=1)
        kinds = {int(key): self._kind(int(key)) for key in {*before, *after}}
        self._know_members(at, after, kinds)
        done = recount(
            self._account,
            self._deltas,
            at=at,
            before=before,
            paid_by=paid_by,
            after=after,
            kinds=kinds,
        )
        for meter_id in done.anew:
            assert event_id is not None, "an event that counted has an id"
            self._touched.append(Touched(meter_id, kinds[meter_id], at, event_id))
        return done.paid_by

    def write(self, *, now: datetime) -> None:
        """Write what was gathered. The caller has raised the customer's version.

        Raises RangeInvalid or EventsGone where the events that a window or hour is counted from
        were dropped: then nothing is changed, for the transaction ends.
        """
        deltas = [
            _delta(self._customer_id, *key, total, kind=self._kind(key[0]))
            for key, total in self._buckets.items()
            if (total.quantity or total.events) and key[:2] not in self._hours
        ]
        if deltas:
            UsageBatch.objects.create(created_at=now, customers=[self._customer_id], deltas=deltas)
        self._write_members()
        self._write_balances(now=now)
        write_grants(self._customer_id, self._deltas)
        count_anew(self._account, touched=self._touched, hours=self._hours, now=now)

    def _bucket(
        self, at: datetime, usage: Usage, properties: Mapping[str, Any] | None, *, sign: int
    ) -> None:
        for number, counted in usage.items():
            meter_id = int(number)
            kind = self._kind(meter_id)
            if sign < 0 and not kind.adds_up:
                self._hours.add((meter_id, hour_of(at)))
                continue
            terms = next(each for each in self._terms(meter_id) if each.stands_at(at))
            dimensions = json.dumps(dimensions_of(terms, properties or {}), sort_keys=True)
            key = (meter_id, hour_of(at), dimensions)
            found = self._buckets.get(key, Total())
            if kind.adds_up:
                quantity = found.quantity + sign * int(counted)
                self._buckets[key] = Total(quantity, found.events + sign)
            else:
                self._buckets[key] = merged(kind, found, total_of(kind, [(at, counted)]))

    def _know_members(self, at: datetime, after: Usage, kinds: Mapping[int, Aggregation]) -> None:
        """Read whether the members that the event names were seen in its windows before."""
        for number, counted in after.items():
            meter_id = int(number)
            if kinds[meter_id] is not Aggregation.UNIQUE:
                continue
            for terms in self._account.terms.get(meter_id, ()):
                start_at, _ = self._account.window(terms, at=at)
                seen = WindowMember.objects.filter(
                    customer_id=self._customer_id,
                    meter_id=meter_id,
                    window=terms.window,
                    start_at=start_at,
                    member=str(counted),
                )
                if seen.exists():
                    key = (meter_id, terms.window, start_at)
                    self._account.members.setdefault(key, set()).add(str(counted))

    def _write_members(self) -> None:
        WindowMember.objects.bulk_create(
            (
                WindowMember(
                    customer_id=self._customer_id,
                    meter_id=meter_id,
                    window=unit,
                    start_at=start_at,
                    member=member,
                )
                for (meter_id, unit, start_at), members in self._deltas.members.items()
                for member in members
            ),
            ignore_conflicts=True,
        )

    def _write_balances(self, *, now: datetime) -> None:
        """Write what changed. Where a row is not there, or may lack something, the window is
        counted from its events."""
        changed = sorted(self._deltas.balances.items())
        gone = gone_before()
        anew = {}
        for key, change in changed:
            if _is_kept(key, change):
                if change.used or change.grant_used or change.latest_at:
                    read = {} if change.latest_at is None else {"latest_at": change.latest_at}
                    _row(self._customer_id, key).update(
                        used=F("used") + change.used,
                        grant_used=F("grant_used") + change.grant_used,
                        **read,
                    )
            elif not is_done_with(key, end_at=change.end_at, gone=gone, now=now):
                anew[key] = (self._kind(key[0]), change.end_at)
        begun = []
        for key, counted in count_windows(self._customer_id, anew).items():
            change = self._deltas.balances[key]
            values = {"used": counted.used, "latest_at": counted.latest_at}
            if change.stored:
                grant_used = F("grant_used") + change.grant_used
                _row(self._customer_id, key).update(grant_used=grant_used, **values)
            elif counted.begun:
                meter_id, unit, start_at = key
                begun.append(
                    Balance(
                        customer_id=self._customer_id,
                        meter_id=meter_id,
                        window=unit,
                        start_at=start_at,
                        end_at=change.end_at,
                        grant_used=change.grant_used,
                        **values,
                    )
                )
        Balance.objects.bulk_create(begun)

    def _kind(self, meter_id: int) -> Aggregation:
        return self._terms(meter_id)[0].aggregation

    def _terms(self, meter_id: int) -> list[MeterTerms]:
        if meter_id not in self._meters:
            self._meters[meter_id] = all_terms([Meter.objects.get(id=meter_id)])
        return self._meters[meter_id]


def _delta(
    customer_id: int,
    meter_id: int,
    hour: datetime,
    dimensions: str,
    total: Total,
    *,
    kind: Aggregation,
) -> list[Any]:
    found = [
        customer_id,
        meter_id,
        int(hour.timestamp()),
        json.loads(dimensions),
        total.quantity,
        total.events,
    ]
    if kind is Aggregation.LATEST:
        assert total.latest_at is not None
        moment = total.latest_at
        found.append(int(moment.timestamp()) * 1_000_000 + moment.microsecond)
    if kind is Aggregation.UNIQUE:
        found += [None, sorted(total.members)]
    return found


def _is_kept(key: BalanceKey, change: BalanceDelta) -> bool:
    """Whether a window's row says all that was in it, so that it changes by a difference alone.

    One by the minute or the hour may lack what happened before the right began.
    """
    return change.stored and key[1] not in RATE_UNITS


def _row(customer_id: int, key: BalanceKey) -> QuerySet[Balance]:
    meter_id, unit, start_at = key
    return Balance.objects.filter(
        customer_id=customer_id, meter_id=meter_id, window=unit, start_at=start_at
    )
