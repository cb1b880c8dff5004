"""Backfills: events of a range of time supplied afterwards. Opened, filled, closed or reverted.

Nothing counts before a backfill is closed. Then workers apply it piece by piece
(metering/operations/applying.py), and it can be undone as a whole, also while they do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef

from accounts.domain import ids
from accounts.models import Customer
from accounts.operations.auditing import audit
from metering.domain.counting import event_key, event_origin, fingerprint, usage_of
from metering.domain.meters import MeterTerms, QuantityInvalid
from metering.domain.prices import PriceUnknown
from metering.domain.shapes.tokens import with_our_names
from metering.models import Backfill, Correction, EventOrigin, StagedEvent, UsageEvent
from metering.operations.repaying import REASON_MAX
from metering.queries.meters import terms_since
from metering.queries.retention import gone_before
from metering.queries.usage import EventsGone

CUSTOMERS_MAX = 1_000
EVENTS_AT_ONCE = 5_000
_ID_MAX, _SOURCE_MAX = 255, 200


class BackfillUnknown(Exception):
    """There is no such backfill."""


class BackfillInvalid(Exception):
    """A backfill cannot be like this; `param` names the member at fault."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(detail)
        self.param = param
        self.detail = detail


class BackfillNotOpen(Exception):
    """The backfill takes no events any more, or cannot be closed: it was reverted."""


@dataclass(frozen=True, slots=True)
class Supplied:
    """One event as it is supplied; `customer_id` None where nobody is known by its subject."""

    customer_id: int | None
    source: str
    external_id: str
    occurred_at: datetime
    properties: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an event was not taken: its place among those supplied, a problem's code, a sentence."""

    index: int
    external_id: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of the events supplied with one call."""

    accepted: int
    duplicates: int
    rejected: list[Refused]


def open_backfill(
    *,
    mode: Backfill.Mode,
    event_type: str,
    customer_ids: Sequence[int],
    start_at: datetime,
    end_at: datetime,
    reason: str,
    actor: str,
    now: datetime,
) -> Backfill:
    """Begin a backfill of one type of event in `[start_at, end_at)`, which is over by `now`.

    `mode` add: what is supplied counts beside what is there. replace: in its place, so that the
    customers' events of the type and range that are not supplied again are voided. Raises
    BackfillInvalid, also where events of the range may have been dropped: then nobody can tell
    what was there.
    """
    _check_range(start_at=start_at, end_at=end_at, now=now)
    if not 1 <= len(reason.strip()) <= REASON_MAX or "\x00" in reason:
        raise BackfillInvalid("reason", f"a backfill says why, in 1 to {REASON_MAX} characters")
    customers = sorted(set(customer_ids))
    if not 1 <= len(customers) <= CUSTOMERS_MAX:
        raise BackfillInvalid("customers", f"a backfill is of 1 to {CUSTOMERS_MAX:,} customers")
    if not terms_since(event_type, start_at):
        raise BackfillInvalid("event_type", f"no meter counts events of type {event_type!r}")
    with transaction.atomic():
        made = Backfill.objects.create(
            mode=mode,
            event_type=event_type,
            customers=customers,
            start_at=start_at,
            end_at=end_at,
            reason=reason,
            actor=actor,
            created_at=now,
            changed_at=now,
        )
        _audit(made, "opened", actor=actor, now=now)
    return made


def supply(backfill_id: int, *, events: Sequence[Supplied]) -> Taken:
    """Take up to EVENTS_AT_ONCE events, each with its own fate; nothing counts yet.

    An event that was supplied before is a duplicate; with another body it is rejected. What an
    event counts as is settled here, by the meters and their terms of its time: also on one that
    was archived since. One of a customer that was erased is rejected. Raises BackfillUnknown,
    BackfillNotOpen, BackfillInvalid.
    """
    if not 1 <= len(events) <= EVENTS_AT_ONCE:
        raise BackfillInvalid("events", f"a call has 1 to {EVENTS_AT_ONCE:,} events")
    with transaction.atomic():
        backfill = _locked(backfill_id)
        if backfill.status != Backfill.Status.OPEN:
            raise BackfillNotOpen(f"The backfill is {backfill.get_status_display().lower()}.")
        terms = terms_since(backfill.event_type, backfill.start_at)
        events = _without_erased(backfill, events)
        found = [_staged(backfill, each, terms, index) for index, each in enumerate(events)]
        rejected = [each for each in found if isinstance(each, Refused)]
        rows = {index: each for index, each in enumerate(found) if isinstance(each, StagedEvent)}
        fresh, repeats, reused = _sorted_out(backfill, rows)
        said = "The id was supplied before with another body."
        rejected += [Refused(index, rows[index].external_id, "id_reused", said) for index in reused]
        StagedEvent.objects.bulk_create(fresh, batch_size=1_000)
        _keep_origins(backfill.event_type, {each.customer_id for each in fresh})
    return Taken(len(fresh), repeats, sorted(rejected, key=lambda each: each.index))


def _keep_origins(event_type: str, customer_ids: Iterable[int]) -> None:
    """Write down beforehand where these customers' events come from.

    A preview writes it too, uncommitted, and whoever needs the same row meanwhile would wait.
    """
    id_ = event_origin(event_type, None, None)
    EventOrigin.objects.bulk_create(
        [EventOrigin(customer_id=each, id=id_, type=event_type) for each in sorted(customer_ids)],
        ignore_conflicts=True,
    )


def close(backfill_id: int, *, actor: str, now: datetime) -> Backfill:
    """Let it count: workers apply it from now on. Closing again changes nothing.

    Raises BackfillUnknown, BackfillNotOpen, and EventsGone where events of its range were dropped
    since it was opened.
    """
    with transaction.atomic():
        backfill = _locked(backfill_id)
        if backfill.status in {Backfill.Status.CLOSING, Backfill.Status.CLOSED}:
            return backfill
        if backfill.status != Backfill.Status.OPEN:
            raise BackfillNotOpen("The backfill was reverted; open another one.")
        gone = gone_before()
        if gone is not None and backfill.start_at < gone:
            raise EventsGone(f"The events before {gone:%F %T}Z were dropped since it was opened.")
        backfill.status = Backfill.Status.CLOSING
        backfill.closing_at = backfill.changed_at = now
        backfill.save()
        _audit(backfill, "closed", actor=actor, now=now)
    return backfill


def revert(backfill_id: int, *, actor: str, now: datetime) -> Backfill:
    """Drop it, or undo what was applied of it. Reverting again changes nothing.

    What somebody corrected by hand since then stays as it was corrected; what the backfill had
    added is voided in any case. Raises BackfillUnknown, and EventsGone where events that it changed
    were dropped.
    """
    with transaction.atomic():
        backfill = _locked(backfill_id)
        if backfill.status in {Backfill.Status.REVERTING, Backfill.Status.REVERTED}:
            return backfill
        if backfill.status == Backfill.Status.OPEN:
            backfill.dropped, _ = StagedEvent.objects.filter(
                customer_id__in=backfill.customers, backfill_id=backfill.id
            ).delete()
            backfill.status, backfill.reverted_at = Backfill.Status.REVERTED, now
        else:
            _refuse_to_undo_what_is_gone(backfill)
            backfill.status, backfill.customers_done = Backfill.Status.REVERTING, 0
            backfill.closed_at = backfill.closed_at or now
        backfill.changed_at = now
        backfill.save()
        _audit(backfill, "reverted", actor=actor, now=now)
    return backfill


def _check_range(*, start_at: datetime, end_at: datetime, now: datetime) -> None:
    if end_at <= start_at:
        raise BackfillInvalid("to", "a range ends after it begins")
    if end_at > now:
        raise BackfillInvalid("to", "a backfill is of the past; later events are reported")
    gone = gone_before()
    if gone is not None and start_at < gone:
        raise BackfillInvalid("from", f"events before {gone:%F %T}Z were dropped: begin later")


def _refuse_to_undo_what_is_gone(backfill: Backfill) -> None:
    gone = gone_before()
    if gone is None or backfill.start_at >= gone:
        return
    here = {"customer_id__in": backfill.customers, "backfill_id": backfill.id}
    changed = (StagedEvent.Outcome.ADDED, StagedEvent.Outcome.AMENDED)
    events = UsageEvent.objects.filter(customer_id=OuterRef("customer_id"))
    if (
        StagedEvent.objects.filter(
            ~Exists(events.filter(id=OuterRef("id"))), **here, outcome__in=changed
        ).exists()
        or Correction.objects.filter(
            ~Exists(
                events.filter(id=OuterRef("event_id"), received_month=OuterRef("received_month"))
            ),
            **here,
        ).exists()
    ):
        raise EventsGone(f"Events before {gone:%F %T}Z that it changed were dropped.")


def _locked(backfill_id: int) -> Backfill:
    found = Backfill.objects.select_for_update().filter(id=backfill_id).first()
    if found is None:
        raise BackfillUnknown("There is no such backfill.")
    return found


def _staged(
    backfill: Backfill, event: Supplied, terms: Sequence[MeterTerms], index: int
) -> StagedEvent | Refused:
    if (wrong := _wrong(backfill, event)) is not None:
        return Refused(index, event.external_id, *wrong)
    assert event.customer_id is not None
    properties = dict(with_our_names(event.properties))
    try:
        usage = usage_of(
            terms, type=backfill.event_type, properties=properties, at=event.occurred_at
        )
    except (QuantityInvalid, PriceUnknown) as error:
        code = "quantity_invalid" if isinstance(error, QuantityInvalid) else "price_unknown"
        return Refused(index, event.external_id, code, f"{error.detail.rstrip('.')}.")
    return StagedEvent(
        customer_id=event.customer_id,
        backfill_id=backfill.id,
        id=event_key(event.source, event.external_id),
        source=event.source,
        external_id=event.external_id,
        occurred_at=event.occurred_at,
        usage={str(meter_id): counted for meter_id, counted in usage.items()},
        properties=properties or None,
        fingerprint=fingerprint(backfill.event_type, dict(event.properties)),
    )


def _without_erased(backfill: Backfill, events: Sequence[Supplied]) -> list[Supplied]:
    """The events, those of customers that were erased as of nobody."""
    gone = Customer.objects.filter(id__in=backfill.customers, erased_at__isnull=False)
    erased = set(gone.values_list("id", flat=True))
    return [
        replace(each, customer_id=None) if each.customer_id in erased else each for each in events
    ]


def _wrong(backfill: Backfill, event: Supplied) -> tuple[str, str] | None:
    """A problem's code and a sentence, where the event cannot be of this backfill."""
    if event.customer_id is None:
        return "customer_unknown", "There is no such customer."
    if event.customer_id not in backfill.customers:
        return "parameter_invalid", "The backfill is not of this customer."
    texts = (("id", event.external_id, _ID_MAX), ("source", event.source, _SOURCE_MAX))
    for name, text, most in texts:
        if not 1 <= len(text) <= most or "\x00" in text:
            return "parameter_invalid", f"`{name}` is a text of 1 to {most} characters."
    if not backfill.start_at <= event.occurred_at < backfill.end_at:
        return "time_out_of_range", "The time lies outside the backfill's range."
    return None


def _sorted_out(
    backfill: Backfill, rows: Mapping[int, StagedEvent]
) -> tuple[list[StagedEvent], int, list[int]]:
    """What is new, how many were supplied before, and the places of ids with another body."""
    known: dict[tuple[int, UUID], tuple[int, datetime]] = {
        (customer_id, key): (print_, at)
        for customer_id, key, print_, at in StagedEvent.objects.filter(
            backfill_id=backfill.id,
            customer_id__in={row.customer_id for row in rows.values()},
            id__in=[row.id for row in rows.values()],
        ).values_list("customer_id", "id", "fingerprint", "occurred_at")
    }
    fresh: list[StagedEvent] = []
    repeats, reused = 0, []
    for index, row in rows.items():
        key, body = (row.customer_id, row.id), (row.fingerprint, row.occurred_at)
        if key not in known:
            known[key] = body
            fresh.append(row)
        elif known[key] == body:
            repeats += 1
        else:
            reused.append(index)
    return fresh, repeats, reused


def _audit(backfill: Backfill, what: str, *, actor: str, now: datetime) -> None:
    audit(
        actor=actor,
        action=f"backfill.{what}",
        subject=backfill.public_id,
        changes={
            "mode": backfill.mode,
            "event_type": backfill.event_type,
            "customers": [ids.encode(Customer.PREFIX, each) for each in backfill.customers[:100]],
            "reason": backfill.reason,
        },
        now=now,
    )
