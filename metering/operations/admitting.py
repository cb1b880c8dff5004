"""An event that was refused is counted as the gate would have, by another door and later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from accounts.domain import ids
from accounts.models import Customer
from accounts.queries import customer_by_reference
from metering.domain.counting import TimeBounds, TimeOutOfRange, event_key, fingerprint, usage_of
from metering.domain.meters import QuantityInvalid
from metering.domain.prices import PriceUnknown
from metering.domain.refusals import StillRefused
from metering.domain.shapes.reading import Options, ShapeInvalid
from metering.domain.shapes.remains import TRANSLATORS, of_customer, remains
from metering.domain.shapes.tokens import with_our_names
from metering.models import Hold, Meter, QuarantinedEvent, UsageEvent
from metering.operations.expiring import give_back
from metering.operations.recounting import Recounting
from metering.queries.meters import all_terms

_LONGEST: Final = {"id": 255, "type": 200}


@dataclass(frozen=True, slots=True)
class Reported:
    """What an event says, translated where it came in another shape."""

    source: str
    external_id: str
    type: str
    subject: str
    at: datetime | None
    properties: Mapping[str, Any]

    @property
    def key(self) -> UUID:
        """Under which it is counted."""
        return event_key(self.source, self.external_id)


@dataclass(frozen=True, slots=True)
class _Settled:
    """A hold that the event settles, with what it counts as on the hold's meters."""

    hold: Hold
    actual: dict[str, int]

    @property
    def over(self) -> bool:
        return any(number > self.hold.items[meter] for meter, number in self.actual.items())


@dataclass(frozen=True, slots=True)
class _Counted:
    """An event with what it counts as."""

    reported: Reported
    properties: dict[str, object]
    usage: Mapping[int, int | str]
    settled: _Settled | None
    at: datetime
    fingerprint: int


def read(row: QuarantinedEvent, *, given: Customer | None) -> Reported:
    """What the row says. `given`: whose it is, where it says nothing. Raises StillRefused."""
    if not row.shape:
        return Reported(
            row.source,
            row.external_id,
            row.type,
            row.subject,
            row.occurred_at,
            row.properties,
        )
    item, options = row.properties, Options(**row.options)
    if given is not None and row.customer_id is None and _said(row) is None:
        item = of_customer(row.shape, item, given.public_id)
        options = Options(type=options.type)
    try:
        told = TRANSLATORS[row.shape](item, options)
    except ShapeInvalid as error:
        raise StillRefused(error.code, f"{error.detail}.") from error
    if told is None:
        raise StillRefused("parameter_invalid", "It says that it is nobody's usage.")
    for name, text in (("id", told.id), ("type", told.type)):
        if len(text) > _LONGEST[name]:
            raise StillRefused("parameter_invalid", f"Its {name} is longer than {_LONGEST[name]}.")
    return Reported(row.source, told.id, told.type, told.subject, told.occurred_at, told.data)


def _said(row: QuarantinedEvent) -> Customer | None:
    """Whom the item itself names, where it is a customer by now."""
    return customer_by_reference(remains(row.shape, row.properties, Options(**row.options)).subject)


def owner(row: QuarantinedEvent, reported: Reported, *, given: Customer | None) -> Customer:
    """Whose event it is; `given` where it does not say so. Raises StillRefused."""
    found = row.customer if row.customer_id else customer_by_reference(reported.subject)
    if found is None and given is None:
        keyed = not row.subject and not row.shape
        raise StillRefused(
            "key_unknown" if keyed else "customer_unknown",
            "No customer has its key." if keyed else "There is no such customer.",
        )
    if found is not None and given is not None and found.id != given.id:
        detail = f"It is of {found.public_id}, and not of {given.public_id}: leave `customer` out."
        raise StillRefused(row.code, detail)
    chosen = found or given
    assert chosen is not None
    return chosen


def admit(
    row: QuarantinedEvent,
    reported: Reported,
    customer: Customer,
    *,
    chosen: bool,
    bounds: TimeBounds,
    now: datetime,
) -> bool:
    """Count the event; False where it was counted before. Raises StillRefused.

    `chosen`: a person named it, so it counts without its hold where that is gone. In the
    transaction of the caller. The caller has raised the customer's version.
    """
    if Customer.objects.filter(id=customer.id, erased_at__isnull=False).exists():
        raise StillRefused("customer_unknown", "There is no such customer.")
    at = _occurred_at(row, reported, bounds=bounds, now=now)
    key, print_ = reported.key, fingerprint(reported.type, reported.properties)
    earlier = UsageEvent.objects.filter(customer_id=customer.id, id=key).first()
    if earlier is not None and earlier.fingerprint == print_:
        return False
    named = _hold_named(reported, customer, chosen=chosen)
    own = named is not None and named.id == key
    if not own and (
        earlier is not None or Hold.objects.filter(customer_id=customer.id, id=key).exists()
    ):
        raise StillRefused("id_reused", "The id was used before with another body.")
    properties = dict(with_our_names(reported.properties))
    usage = _usage(reported.type, properties, at=at)
    settled = _settled(named, usage, own=own, chosen=chosen)
    if settled is None and own and named is not None and named.state == Hold.State.SETTLED:
        return False
    counted = _Counted(reported, properties, usage, settled, at, print_)
    _write(counted, customer, gateway_id=row.gateway_id, now=now)
    return True


def _hold_named(reported: Reported, customer: Customer, *, chosen: bool) -> Hold | None:
    """The hold that the event names; raises StillRefused where there is none, unless chosen."""
    if "hold" not in reported.properties:
        return None
    told = reported.properties["hold"]
    try:
        owner_id, key = ids.decode_owned(Hold.PREFIX, told if isinstance(told, str) else "")
    except ids.IdMalformed:
        hold = None
    else:
        mine = Hold.objects.filter(customer_id=customer.id, id=key)
        hold = mine.first() if owner_id == customer.id else None
    if hold is None and not chosen:
        raise StillRefused("not_found", "The customer has no such hold.")
    return hold


def _settled(
    hold: Hold | None, usage: Mapping[int, int | str], *, own: bool, chosen: bool
) -> _Settled | None:
    """What the event settles; None where it is more usage, or no hold is in the way."""
    if hold is None:
        return None
    if hold.state == Hold.State.RELEASED:
        if chosen:
            return None
        raise StillRefused("hold_released", "The hold was released.")
    actual = {str(meter): int(n) for meter, n in usage.items() if str(meter) in hold.items}
    if hold.state == Hold.State.SETTLED:
        if own and _items(actual) != _told(hold):
            raise StillRefused("id_reused", "The hold was settled before with another quantity.")
        return None
    if not actual:
        raise StillRefused("meter_unknown", "The event counts on no meter of the hold.")
    return _Settled(hold, actual)


def _items(actual: Mapping[str, int]) -> list[dict[str, Any]]:
    """What the settling of a hold is answered, as far as it is compared."""
    keys = dict(Meter.objects.filter(id__in=actual).values_list("id", "key"))
    items = [{"meter": keys[int(meter)], "quantity": n} for meter, n in actual.items()]
    return sorted(items, key=lambda each: str(each["meter"]))


def _told(hold: Hold) -> list[dict[str, Any]]:
    items = json.loads(hold.closing or "{}").get("items", [])
    return sorted(items, key=lambda each: str(each["meter"]))


def _write(counted: _Counted, customer: Customer, *, gateway_id: int | None, now: datetime) -> None:
    """Write the event and all that follows. The caller has raised the customer's version."""
    reported, at, settled, late = counted.reported, counted.at, counted.settled, False
    if settled is not None:
        late = settled.hold.state == Hold.State.EXPIRED or settled.hold.expires_at <= now
        give_back(customer.id, also=settled.hold.id, now=now)
    books = Recounting(customer.id, moments=[(meter_id, at) for meter_id in counted.usage])
    kept: dict[str, Any] = {str(meter_id): quantity for meter_id, quantity in counted.usage.items()}
    paid_by = books.change(at=at, before={}, after=kept, properties=counted.properties)
    UsageEvent.objects.create(
        customer_id=customer.id,
        id=reported.key,
        received_month=now.date().replace(day=1),
        source=reported.source,
        external_id=reported.external_id,
        type=reported.type,
        occurred_at=at,
        received_at=now,
        usage=kept,
        properties=counted.properties or None,
        paid_by=paid_by,
        fingerprint=counted.fingerprint,
        gateway_id=gateway_id,
        from_hold=settled is not None and settled.hold.id == reported.key,
        late=late,
        over_hold=settled is not None and settled.over,
    )
    books.write(now=now)
    if settled is not None:
        _close(settled, counted, late=late, now=now)


def _close(settled: _Settled, counted: _Counted, *, late: bool, now: datetime) -> None:
    """Note by what the hold was settled. The caller has raised the customer's version."""
    hold, key = settled.hold, counted.reported.key
    event = ids.encode_owned(UsageEvent.PREFIX, customer_id=hold.customer_id, key=key)
    closing = {
        "event": event,
        "items": _items(settled.actual),
        "over_hold": settled.over,
        "late": late,
    }
    Hold.objects.filter(customer_id=hold.customer_id, id=hold.id).update(
        state=Hold.State.SETTLED,
        closed_at=now,
        closing=json.dumps(closing),
        closing_fingerprint=counted.fingerprint,
    )


def _occurred_at(
    row: QuarantinedEvent, reported: Reported, *, bounds: TimeBounds, now: datetime
) -> datetime:
    at = reported.at or row.first_at
    try:
        bounds.check(at, reported_at=row.first_at, now=now)
    except TimeOutOfRange as error:
        raise StillRefused("time_out_of_range", str(error)) from error
    return at


def _usage(type_: str, properties: dict[str, object], *, at: datetime) -> dict[int, int | str]:
    terms = all_terms(Meter.objects.select_related("price_table").filter(archived_at=None))
    if not any(each.event_type == type_ for each in terms):
        raise StillRefused("meter_unknown", f"No meter counts events of type {type_!r}.")
    try:
        return usage_of(terms, type=type_, properties=properties, at=at)
    except (QuantityInvalid, PriceUnknown) as error:
        code = "quantity_invalid" if isinstance(error, QuantityInvalid) else "price_unknown"
        raise StillRefused(code, f"{error.detail.rstrip('.')}.") from error
