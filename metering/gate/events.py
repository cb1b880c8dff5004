"""Counting what was reported: usage that happened is counted, past a limit too."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from metering.domain.aggregates import Counted
from metering.domain.burndown import use
from metering.domain.counting import QUANTITY
from metering.domain.meters import (
    MeterTerms,
    QuantityInvalid,
    dimensions_of,
    matches,
    whole_quantity,
)
from metering.domain.readings import Reading
from metering.gate import answers
from metering.gate.calls import (
    ACCEPTED,
    DUPLICATE,
    BucketKey,
    Fate,
    Reported,
    Used,
    Work,
    bucket_key,
)
from metering.gate.catalogue import Catalogue
from metering.gate.checks import NOTHING, check_credential, count
from metering.gate.copied import Found
from metering.gate.items import Bounds, counted, occurred_at
from metering.gate.rows import EventRow
from metering.gate.settling import hold_named, settle
from metering.gate.wire import EventBody, Problem, aware


class _Count(NamedTuple):
    """What an event counts as on a meter, and in which bucket."""

    meter: MeterTerms
    value: Counted
    bucket: BucketKey
    dimensions: Mapping[str, str]


class Counting:
    """Counts the events of one flight, and finds once what is the same for many of them."""

    __slots__ = ("_plain", "bounds", "callers", "catalogue", "found", "now")

    def __init__(
        self,
        catalogue: Catalogue,
        found: Mapping[tuple[int, str], Found],
        now: datetime,
        bounds: Bounds,
    ) -> None:
        self.catalogue = catalogue
        self.found = found
        self.now = now
        self.bounds = bounds
        self.callers: set[bytes] = set()  # keys of gateways that may ask
        # By type, of events of now that have no data.
        self._plain: dict[str, tuple[dict[str, Counted], list[_Count]]] = {}

    def count(self, call: Reported, work: Work) -> None:
        """Give every event its own fate; one that is refused touches no other."""
        fates = call.fates
        for place, event, key in call.events:
            try:
                fates[place] = self._one(call, event, key, work)
            except Problem as refused:
                fates[place] = Fate("rejected", refused)

    def _one(self, call: Reported, event: EventBody, key: str, work: Work) -> Fate:
        catalogue, now = self.catalogue, self.now
        print_ = fingerprint(event.type, event.data)
        named = None if event.data is None else hold_named(event.data, of=work.account.customer_id)
        own = named == key  # it has the hold's own id, under which there is a row already
        if (self.found or key in work.used) and self._is_repeat(event, key, print_, work, own=own):
            return DUPLICATE
        try:
            at, key_id = self._when(call, event, work)
            usage, counts = self._counts(event, at)
            settled = None if named is None else settle(work, named, usage, self.found)
        except Problem:
            if not own:
                work.new_ids.append(key)  # perhaps a repeat: the write finds out, as for a check
            raise
        if settled and own and settled.before:
            return settled.repeated(catalogue)
        paid_by: dict[str, Any] = {}
        for meter, value, bucket, dimensions in counts:
            if burned := _take(work, meter, value, at=at):
                paid_by[str(meter.id)] = {"grants": burned}
            work.count_in(bucket, meter, value, at=at, dimensions=dimensions)
        row = EventRow(
            work.account.customer_id,
            key,
            event.source,
            event.id,
            usage,
            print_,
            work.origin(event.type, catalogue.gateways[call.gateway_key].gateway_id, key_id),
            None if at is now else at,
            event.data or None,
            paid_by or None,
        )
        row.pack()
        work.events.append(row)
        work.used[key] = Used(print_)
        if not own:
            work.new_ids.append(key)
        if settled and not settled.before:
            settled.close(work, row, catalogue=catalogue, now=now)
        return ACCEPTED

    def _is_repeat(self, event: EventBody, key: str, print_: int, work: Work, *, own: bool) -> bool:
        """Whether the event was counted before; raises Problem where its id was another's."""
        used = work.used.get(key)
        row = self.found.get((work.account.customer_id, key))
        if used is None and row is None:
            return False
        if print_ == (used.fingerprint if used is not None else _first_print(row)):
            return True
        if own:
            return False  # what has its id is its hold, as far as is known
        raise Problem("id_reused", f"The id {event.id!r} was used before with another body.")

    def _when(self, call: Reported, event: EventBody, work: Work) -> tuple[datetime, int | None]:
        """The moment an event counts at, and the api key that it came with; raises Problem."""
        at = self.now
        if event.time is not None:
            at = occurred_at(aware(event.time, param="time"), now=at, bounds=self.bounds)
        if call.reference.digest is None:
            return at, None
        # Of when it happened: what the key was good for then is owed, revoked since or not.
        return at, check_credential(call, work, now=at)

    def _counts(self, event: EventBody, at: datetime) -> tuple[dict[str, Counted], list[_Count]]:
        """What an event is kept and counted as at that moment; raises Problem."""
        data = event.data
        plain = not data and at is self.now
        if plain and (found := self._plain.get(event.type)) is not None:
            return found
        counts = []
        for meter, value in usage_of(event, data or {}, self.catalogue, at=at):
            dimensions = dimensions_of(meter, data or {}) if meter.dimensions else NOTHING
            counts.append(_Count(meter, value, bucket_key(meter.id, at, dimensions), dimensions))
        told = {str(each.meter.id): each.value for each in counts}, counts
        if plain:
            self._plain[event.type] = told
        return told


def _take(work: Work, meter: MeterTerms, value: Counted, *, at: datetime) -> dict[str, int] | None:
    """Count in the balances; return what was burned of grants, by id."""
    if meter.adds_up:
        return use(work.account, work.deltas, meter_id=meter.id, quantity=int(value), at=at)
    reading = Reading(meter.aggregation, value)
    return count(work.account, work.deltas, meter.id, reading, at=at)


@lru_cache(maxsize=1_024)
def _print_of_nothing(type_: str) -> int:
    return answers.fingerprint(type_, {})


def fingerprint(type_: str, data: Mapping[str, Any] | None) -> int:
    """What a repeat of an event's id must equal."""
    return answers.fingerprint(type_, data) if data else _print_of_nothing(type_)


def usage_of(
    event: EventBody, data: Mapping[str, Any], catalogue: Catalogue, *, at: datetime
) -> list[tuple[MeterTerms, Counted]]:
    """The meters that count one event, and as what; raises Problem where it cannot be counted."""
    known = catalogue.meters_by_type.get(event.type)
    if known is None:
        near = [name for name in catalogue.meters_by_type if name.startswith(event.type[:4])][:3]
        hint = f" Known types like it: {', '.join(near)}." if near else ""
        raise Problem("meter_unknown", f"No meter counts events of type {event.type!r}.{hint}")
    matched = [meter for meter in known if matches(meter, type=event.type, properties=data, at=at)]
    plain = None
    if QUANTITY in data and not any(meter.value_property == QUANTITY for meter in matched):
        try:
            plain = whole_quantity(data[QUANTITY], param="data.quantity")
        except QuantityInvalid as error:
            raise Problem("quantity_invalid", error.detail, param=error.param) from error
    return [
        (meter, counted(meter, data, at=at) if plain is None or not meter.takes_quantity else plain)
        for meter in matched
    ]


def _first_print(row: Found | None) -> int | None:
    if row is None:
        return None
    if row.event_fingerprint is not None or row.hold is None:
        return row.event_fingerprint
    return row.hold.fingerprint
