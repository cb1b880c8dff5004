"""Refused events that were kept are tried again, or given up."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import DataError, IntegrityError, transaction
from django.db.models import Q

from accounts.models import Customer
from accounts.operations.auditing import audit
from accounts.operations.versions import bump
from accounts.queries import customer_by_reference
from metering.domain.counting import TimeBounds
from metering.domain.refusals import CHOSEN_ONLY, StillRefused, told_of
from metering.models import QuarantinedEvent
from metering.operations.admitting import Reported, admit, owner, read
from metering.operations.rerolling import RangeInvalid
from metering.queries.usage import EventsGone

log = logging.getLogger(__name__)
SUBJECT = "quarantine"
WENT_MAX = 20_000  # events that wait no longer, and stay for their fates
_WAITING = QuarantinedEvent.State.WAITING
_CLOSED = (
    *("state", "digest", "closed_at", "closed_by", "reason", "properties", "options", "size"),
    *("customer", "subject", "detail"),
)


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of the events that were tried; `refused` ones stay, with their new reason."""

    counted: int = 0
    duplicates: int = 0
    refused: int = 0


def redrive(
    *,
    event_ids: Sequence[int] | None = None,
    customer: Customer | None = None,
    limit: int,
    bounds: TimeBounds,
    actor: str,
    now: datetime,
) -> Redriven:
    """Try the chosen events again, or those not tried since `now`, the longest waiting first.

    Those that are for a person to decide on (metering/domain/refusals.py) are tried only where they
    are chosen. `customer`: whose they are, of those that do not say it.

    Each in a transaction of its own: one that fails again keeps its place with the new reason, and
    touches no other. An event that was counted meanwhile is a duplicate; it counts once however
    often and by however many this is called.
    """
    waiting = QuarantinedEvent.objects.filter(state=_WAITING).order_by("last_at", "id")
    if event_ids is None:
        waiting = waiting.filter(last_at__lt=now).exclude(code__in=CHOSEN_ONLY)
    else:
        waiting = waiting.filter(id__in=event_ids)
    chosen = event_ids is not None
    outcomes = [
        _redrive_one(number, given=customer, chosen=chosen, bounds=bounds, now=now)
        for number in waiting.values_list("id", flat=True)[:limit]
    ]
    tally = Redriven(*(outcomes.count(each) for each in ("counted", "duplicates", "refused")))
    if tally.counted or tally.duplicates:
        _forget_the_oldest()
        audit(
            actor=actor,
            action="quarantine.redrive",
            subject=SUBJECT,
            changes={"counted": tally.counted, "duplicates": tally.duplicates},
            now=now,
        )
    return tally


def discard(*, event_ids: Sequence[int], reason: str = "", actor: str, now: datetime) -> int:
    """Give events up for good; returns how many there were that waited.

    Of each stays for its fate that it was refused and why, and who discarded it, when and why;
    nothing of its content, and where nobody knows whose it is, nothing that names a customer.
    """
    with transaction.atomic():
        chosen = QuarantinedEvent.objects.filter(id__in=event_ids, state=_WAITING)
        rows = list(chosen.order_by("id").select_for_update())
        subjects = {each.subject for each in rows if each.customer_id is None}
        owners = {each: customer_by_reference(each) if each else None for each in subjects}
        for row in rows:
            row.state, row.digest = row.State.DISCARDED, None
            row.closed_at, row.closed_by, row.reason = now, actor, reason
            row.properties, row.options, row.size = {}, {}, 0
            if row.customer_id is None and (whose := owners[row.subject]) is not None:
                row.customer = whose
            elif row.customer_id is None:
                row.subject, row.detail = "", told_of(row.code)
        QuarantinedEvent.objects.bulk_update(rows, _CLOSED, batch_size=1_000)
        if rows:
            _forget_the_oldest()
            audit(
                actor=actor,
                action="quarantine.discard",
                subject=SUBJECT,
                changes={"events": len(rows), **({"reason": reason} if reason else {})},
                now=now,
            )
    return len(rows)


def _forget_the_oldest() -> None:
    went = QuarantinedEvent.objects.exclude(state=_WAITING).order_by("-closed_at", "-id")
    QuarantinedEvent.objects.filter(
        id__in=list(went.values_list("id", flat=True)[WENT_MAX:])
    ).delete()


def forget_quarantined(*, now: datetime, kept: timedelta) -> int:
    """Delete what was first refused longer ago than that, and what erased customers still have.

    That came while they were erased. Returns how many rows there were; the audit says how many
    still waited.
    """
    with transaction.atomic():
        old = QuarantinedEvent.objects.filter(
            Q(first_at__lt=now - kept) | Q(customer__erased_at__isnull=False)
        )
        waited, _ = old.filter(state=_WAITING).delete()
        went, _ = old.delete()
        if waited:
            audit(
                actor="system",
                action="quarantine.forget",
                subject=SUBJECT,
                changes={"events": waited},
                now=now,
            )
    return waited + went


def _redrive_one(
    number: int, *, given: Customer | None, chosen: bool, bounds: TimeBounds, now: datetime
) -> str:
    waiting = QuarantinedEvent.objects.filter(id=number, state=_WAITING)
    try:
        with transaction.atomic():
            seen = waiting.select_related("customer").first()
            if seen is None:
                return "taken"  # by somebody else, in the meantime
            customer = owner(seen, read(seen, given=given), given=given)
            # From here on nobody else writes this customer's metering, or erases it.
            bump(customer.id)
            row = waiting.select_for_update(skip_locked=True).first()
            if row is None:
                return "taken"
            reported = read(row, given=given)
            counted = admit(row, reported, customer, chosen=chosen, bounds=bounds, now=now)
            _close(row, reported, customer, counted=counted, now=now)
            return "counted" if counted else "duplicates"
    except StillRefused as error:
        why = (error.code, error.detail)
    except (EventsGone, RangeInvalid) as error:
        why = ("events_gone", str(error))
    except (DataError, IntegrityError) as error:
        # What the database says of it may hold the whole row, which a detail is not to show.
        log.warning("quarantined event %s: %s", number, str(error).partition("\n")[0])
        why = ("internal_error", "The database does not take it.")
    waiting.update(code=why[0], detail=why[1][:500], last_at=now)
    return "refused"


def _close(
    row: QuarantinedEvent, reported: Reported, customer: Customer, *, counted: bool, now: datetime
) -> None:
    """Keep of the row where it went, and why it had been refused."""
    row.state = row.State.COUNTED if counted else row.State.DUPLICATE
    row.digest, row.closed_at = None, now
    row.customer, row.event_id = customer, reported.key
    row.external_id, row.type = reported.external_id, reported.type
    row.properties, row.options, row.size = {}, {}, 0
    row.save()
