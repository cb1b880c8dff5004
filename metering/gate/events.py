"""Counting what was reported: usage that happened is counted, past a limit too."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from accounts.domain import ids
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
    Closing,
    Fate,
    Reported,
    Used,
    Work,
    bucket_key,
)
from metering.gate.catalogue import Catalogue
from metering.gate.checks import NOTHING, check_credential, count
from metering.gate.holds import close, hold_of, settle
from metering.gate.items import Bounds, counted, occurred_at
from metering.gate.rows import EventRow
from metering.gate.store import Found
from metering.gate.wire import EventBody, ItemBody, Problem, SettleBody, aware


class _Plain(NamedTuple):
    """What an event without data counts as on a meter, at the moment of its flight."""

    meter: MeterTerms
    value: Counted
    bucket: BucketKey


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
        self._plain: dict[str, tuple[dict[str, Counted], list[_Plain]]] = {}  # by type

    def count(self, call: Reported, work: Work) -> None:
        """Give every event its own fate; one that is refused touches no other."""
        try:
            key_id = check_credential(call, work, now=self.now)
        except Problem as refused:
            call.refuse(refused)
            return
        fates = call.fates
        for place, event, key in call.events:
            try:
                fates[place] = self._one(call, event, key, work, key_id)
            except Problem as refused:
                fates[place] = Fate("rejected", refused)

    def _one(
        self, call: Reported, event: EventBody, key: str, work: Work, key_id: int | None
    ) -> Fate:
        account, catalogue, now = work.account, self.catalogue, self.now
        data = event.data
        print_ = fingerprint(event.type, data)
        if data is not None and "hold" in data:
            return _settle(call, event, data, work, catalogue=catalogue, found=self.found, now=now)
        at = now
        if event.time is not None:
            at = occurred_at(aware(event.time, param="time"), now=now, bounds=self.bounds)
        used = work.used.get(key)
        row = self.found.get((account.customer_id, key)) if self.found else None
        if used is not None or row is not None:
            first = used.fingerprint if used is not None else _first_print(row)
            if first == print_:
                return DUPLICATE
            raise Problem("id_reused", f"The id {event.id!r} was used before with another body.")
        paid_by: dict[str, Any] = {}
        if not data and at is now:
            usage, counts = self._plain.get(event.type) or self._of_type(event)
            for meter, value, bucket in counts:
                if burned := _take(work, meter, value, at=at):
                    paid_by[str(meter.id)] = {"grants": burned}
                work.count_in(bucket, meter, value, at=at, dimensions=NOTHING)
        else:
            usage = {}
            for meter, value in usage_of(event, data or {}, catalogue, at=at):
                usage[str(meter.id)] = value
                if burned := _take(work, meter, value, at=at):
                    paid_by[str(meter.id)] = {"grants": burned}
                dimensions = dimensions_of(meter, data or {}) if meter.dimensions else NOTHING
                work.count(meter, value, at=at, dimensions=dimensions)
        gateway_id = catalogue.gateways[call.gateway_key].gateway_id
        row_ = EventRow(
            account.customer_id,
            key,
            event.source,
            event.id,
            usage,
            print_,
            work.origin(event.type, gateway_id, key_id),
            None if at is now else at,
            data or None,
            paid_by or None,
        )
        row_.pack()
        work.events.append(row_)
        work.new_ids.append(key)
        work.used[key] = Used(print_)
        return ACCEPTED

    def _of_type(self, event: EventBody) -> tuple[dict[str, Counted], list[_Plain]]:
        """What an event of now counts as that has no data; raises Problem."""
        now = self.now
        counts = [
            _Plain(meter, value, bucket_key(meter.id, now, NOTHING))
            for meter, value in usage_of(event, {}, self.catalogue, at=now)
        ]
        usage = {str(meter.id): value for meter, value, _ in counts}
        found = self._plain[event.type] = usage, counts
        return found


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


def _settle(
    call: Reported,
    event: EventBody,
    data: Mapping[str, Any],
    work: Work,
    *,
    catalogue: Catalogue,
    found: Mapping[tuple[int, str], Found],
    now: datetime,
) -> Fate:
    """An event that names a hold settles it with what it counts as."""
    account = work.account
    data = dict(data)
    customer_id, key = hold_key(data.pop("hold"))
    hold = hold_of(work, key, found)
    if customer_id != account.customer_id or hold is None:
        raise Problem("not_found", "The customer has no such hold.", param="data.hold")
    # Another call of this very batch may have closed it; one that extended it has not.
    closing_row = work.rare.closings.get(key)
    state = hold.state if closing_row is None else closing_row.state
    if state == "settled":
        return DUPLICATE
    if state == "released":
        raise Problem("hold_released", "The hold was released.", param="data.hold")
    usage = {
        meter.key: int(quantity)
        for meter, quantity in usage_of(event, data, catalogue, at=now)
        if str(meter.id) in hold.items
    }
    if not usage:
        raise Problem("meter_unknown", "The event counts on no meter of the hold.")
    body = SettleBody(
        items=[ItemBody(name, quantity) for name, quantity in usage.items()],
        properties=data or None,
    )
    closing = Closing(
        gateway_key=call.gateway_key,
        reference=call.reference,
        deadline=call.deadline,
        action="settle",
        customer_id=customer_id,
        key=key,
        body=body,
    )
    said, _ = settle(closing, work, hold, body, catalogue=catalogue, now=now)
    print_ = answers.fingerprint("settle", [None, sorted(usage.items()), body.properties])
    encoded = answers.encode(said)
    close(work, key, closing=encoded, fingerprint=print_)
    work.used[key] = Used(print_, closing=encoded)
    return ACCEPTED


def hold_key(hold_id: object) -> tuple[int, str]:
    """The customer and key of a hold's public id; raises Problem."""
    try:
        customer_id, key = ids.decode_owned("hold", hold_id if isinstance(hold_id, str) else "")
    except ids.IdMalformed as error:
        raise Problem("not_found", "That is not a hold's id.", param="data.hold") from error
    return customer_id, key.hex


def _first_print(row: Found | None) -> int | None:
    if row is None:
        return None
    if row.event_fingerprint is not None or row.hold is None:
        return row.event_fingerprint
    return row.hold.fingerprint
