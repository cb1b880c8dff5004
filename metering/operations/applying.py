"""Backfills applied and undone, a piece of one customer's events at a time.

The row of the backfill is the claim: it is locked while a piece is written, in one transaction, so
that a worker that dies leaves neither half a piece nor a claim, and another one goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet, Subquery

from accounts.operations.versions import bump
from metering.models import Backfill, Correction, Hold, StagedEvent, UsageEvent
from metering.models.hours import occurred_within
from metering.operations.correcting import moments, put
from metering.operations.recounting import Recounting
from metering.queries.corrections import InForce, as_in_force, corrections_of, in_force
from metering.queries.usage import EventsGone

log = structlog.get_logger(__name__)
# Events of a transaction. What is foreseen is taken in the same pieces: where they end, grants are
# burned anew, so that it is the same to the unit only with the same ones.
PIECE = 1_000
_Change = tuple[InForce, Correction.Kind, Mapping[str, int | str], Mapping[str, Any] | None]


def apply_backfills(*, now: datetime, limit: int, pieces: int) -> int:
    """Apply and undo backfills, `limit` events a piece; returns how many events there were.

    One transaction a piece; what another worker is at is left to it. A backfill of which nothing
    is left is closed, or reverted. One that fails is logged and tried again by the next call, after
    all others: it keeps nobody waiting.
    """
    total = 0
    failed: list[int] = []
    for _ in range(pieces):
        done = _one_piece(now=now, limit=limit, failed=failed)
        if done is None:
            break
        total += done
    return total


def apply_piece(backfill: Backfill, customer_id: int, *, now: datetime, limit: int) -> int:
    """Apply up to `limit` more events of one customer; returns how many there were.

    In the caller's transaction, which has locked the backfill. 0: the customer has none left. What
    is replaced goes before anything new counts, so that no grant pays for both.
    """
    return void_piece(backfill, customer_id, now=now, limit=limit) or take_piece(
        backfill, customer_id, now=now, limit=limit
    )


def void_piece(backfill: Backfill, customer_id: int, *, now: datetime, limit: int) -> int:
    """Void up to `limit` more events that are replaced, as `apply_piece` does. 0: none are left."""
    replaced: list[UsageEvent] = []
    if backfill.mode == Backfill.Mode.REPLACE:
        replaced += _replaced(backfill, customer_id)[:limit]
    if replaced:
        bump(customer_id)
        # Read only now: somebody may have corrected one of them in between.
        standing = as_in_force(customer_id, events=replaced)
        changes: list[_Change] = [
            (each, Correction.Kind.VOID, {}, each.properties) for each in standing if not each.void
        ]
        _correct(backfill, customer_id, changes, now=now)
    return len(replaced)


def take_piece(backfill: Backfill, customer_id: int, *, now: datetime, limit: int) -> int:
    """Count up to `limit` more supplied events, when none is left to be voided before."""
    staged = list(_waiting(backfill, customer_id)[:limit])
    if staged:
        bump(customer_id)
        _take_in(backfill, customer_id, staged, now=now)
    return len(staged)


def undo_piece(backfill: Backfill, customer_id: int, *, now: datetime, limit: int) -> int:
    """Undo up to `limit` more events of one customer; as `apply_piece`. Raises EventsGone."""
    applied = (StagedEvent.Outcome.ADDED, StagedEvent.Outcome.AMENDED)
    rows = StagedEvent.objects.filter(
        customer_id=customer_id, backfill_id=backfill.id, outcome__in=applied
    )
    staged = list(rows.order_by("occurred_at", "id")[:limit])
    chosen = (
        _events_of(backfill, staged)
        if staged
        else list(_voided(backfill, customer_id).values_list("event_id", "received_month")[:limit])
    )
    if not chosen:
        return 0
    bump(customer_id)
    found = UsageEvent.objects.filter(
        customer_id=customer_id,
        id__in=[key for key, _ in chosen],
        received_month__in={month for _, month in chosen},
    )
    wanted = set(chosen)
    events = [each for each in found if (each.id, each.received_month) in wanted]
    if len(events) < len(chosen):
        raise EventsGone("Events that it changed were dropped, and cannot be put back.")
    added = {each.id for each in staged if each.outcome == StagedEvent.Outcome.ADDED}
    changes: list[_Change] = []
    for standing in as_in_force(customer_id, events=events):
        if standing.event.id in added:
            if not standing.void or _voided_by_another(backfill, standing):
                changes.append((standing, Correction.Kind.VOID, {}, standing.properties))
        elif (before := _before(backfill, standing)) is not None:
            changes.append((standing, Correction.Kind.RESTORE, before.usage, before.properties))
    _correct(backfill, customer_id, changes, now=now)
    rows.filter(id__in=[each.id for each in staged]).update(outcome=StagedEvent.Outcome.UNDONE)
    return len(chosen)


def _one_piece(*, now: datetime, limit: int, failed: list[int]) -> int | None:
    """A piece of the backfill that waits longest, but for those in `failed`; None: there is none.

    One that fails is added to `failed`, and has moved behind the others without anything else.
    """
    at_work = (Backfill.Status.CLOSING, Backfill.Status.REVERTING)
    with transaction.atomic():
        found = Backfill.objects.select_for_update(skip_locked=True).filter(status__in=at_work)
        backfill = found.exclude(id__in=failed).order_by("changed_at", "id").first()
        if backfill is None:
            return None
        done = 0
        try:
            with transaction.atomic():  # what fails is taken back; the claim stays
                done = _go_on(backfill, now=now, limit=limit)
        except Exception:
            log.exception("backfill_failed", backfill=backfill.public_id)
            failed.append(backfill.id)
        backfill.changed_at = now  # whoever waits longer comes first
        backfill.save()
    return done


def _go_on(backfill: Backfill, *, now: datetime, limit: int) -> int:
    """Take the next piece, or note that none is left; the caller saves the backfill."""
    closing = backfill.status == Backfill.Status.CLOSING
    piece = apply_piece if closing else undo_piece
    for customer_id in backfill.customers[backfill.customers_done :]:
        done = piece(backfill, customer_id, now=now, limit=limit)
        if done:
            return done
        backfill.customers_done += 1
    backfill.customers_done = 0
    if closing:
        backfill.status, backfill.closed_at = Backfill.Status.CLOSED, now
    else:
        backfill.status, backfill.reverted_at = Backfill.Status.REVERTED, now
    return 0


def _waiting(backfill: Backfill, customer_id: int) -> QuerySet[StagedEvent]:
    rows = StagedEvent.objects.filter(
        customer_id=customer_id, backfill_id=backfill.id, applied_at=None
    )
    return rows.order_by("occurred_at", "id")


def _replaced(backfill: Backfill, customer_id: int) -> QuerySet[UsageEvent]:
    """Events of the range that were there when it was closed and are not supplied again.

    By scalar subqueries and not EXISTS: joined, each event was compared with all that were supplied
    where statistics did not know of them yet.
    """
    standing = Correction.objects.filter(
        customer_id=customer_id,
        event_id=OuterRef("id"),
        received_month=OuterRef("received_month"),
        superseded_at=None,
    )
    supplied = StagedEvent.objects.filter(
        customer_id=customer_id, backfill_id=backfill.id, id=OuterRef("id")
    )
    found = UsageEvent.objects.alias(
        voided=Subquery(standing.filter(kind=Correction.Kind.VOID).values("number")[:1]),
        supplied=Subquery(supplied.values("id")[:1]),
    )
    return found.filter(
        occurred_within(backfill.start_at, backfill.end_at),
        customer_id=customer_id,
        type=backfill.event_type,
        received_at__lte=backfill.closing_at,
        voided=None,
        supplied=None,
    ).order_by("occurred_at", "id")


def _events_of(backfill: Backfill, staged: Sequence[StagedEvent]) -> list[tuple[UUID, date]]:
    """Which events these became, or changed: their id and month of receipt."""
    changed = dict(
        Correction.objects.filter(
            customer_id=staged[0].customer_id,
            backfill_id=backfill.id,
            event_id__in=[each.id for each in staged],
        ).values_list("event_id", "received_month")
    )
    found = []
    for each in staged:
        assert each.applied_at is not None
        # An event that was added was received when it was applied.
        month = each.applied_at.date().replace(day=1)
        amended = each.outcome == StagedEvent.Outcome.AMENDED
        found.append((each.id, changed[each.id] if amended else month))
    return found


def _voided(backfill: Backfill, customer_id: int) -> QuerySet[Correction]:
    """What it voided, and nobody has put right since."""
    supplied = StagedEvent.objects.filter(
        customer_id=customer_id, backfill_id=backfill.id, id=OuterRef("event_id")
    )
    return Correction.objects.filter(
        ~Exists(supplied),
        customer_id=customer_id,
        backfill_id=backfill.id,
        kind=Correction.Kind.VOID,
        superseded_at=None,
    ).order_by("occurred_at", "event_id")


def _voided_by_another(backfill: Backfill, standing: InForce) -> bool:
    """Whether another backfill voided the event, which would come back when that is undone."""
    assert standing.correction is not None
    return standing.correction.backfill_id not in {None, backfill.id}


def _before(backfill: Backfill, standing: InForce) -> UsageEvent | Correction | None:
    """What stood before the backfill's own correction; None where a later one is in force.

    What other backfills said that are being undone, or were, is not looked at, in whatever order
    they are. An event that one of them voided is left to it.
    """
    if standing.void and _voided_by_another(backfill, standing):
        return None
    found = corrections_of(standing.event)
    # A repayment counts as what stood before it.
    said = list(found.exclude(kind=Correction.Kind.REPAY))
    others = {each.backfill_id or backfill.id for each in said} - {backfill.id}
    undone = Backfill.objects.filter(
        id__in=others, status__in=(Backfill.Status.REVERTING, Backfill.Status.REVERTED)
    ).values_list("id", flat=True)
    passed = set(undone)
    said = [each for each in said if each.backfill_id not in passed]
    own = next(place for place, each in enumerate(said) if each.backfill_id == backfill.id)
    if said[own + 1 :]:
        return None
    return said[own - 1] if own else standing.event


def _take_in(
    backfill: Backfill, customer_id: int, staged: Sequence[StagedEvent], *, now: datetime
) -> None:
    """Count staged events. The caller has raised the customer's version."""
    keys = [each.id for each in staged]
    known = in_force(customer_id, event_ids=keys)
    held = set(
        Hold.objects.filter(customer_id=customer_id, id__in=keys).values_list("id", flat=True)
    )
    new: list[StagedEvent] = []
    changes: list[_Change] = []
    for each in staged:
        standing = known.get(each.id)
        if standing is None and each.id not in held:
            new.append(each)
            each.outcome = StagedEvent.Outcome.ADDED
        elif standing is not None:
            each.outcome = _outcome(backfill, each, standing)
            if each.outcome == StagedEvent.Outcome.AMENDED:
                kind = Correction.Kind.AMEND
                changes.append((standing, kind, each.usage, each.properties))
        else:
            each.outcome = StagedEvent.Outcome.REFUSED
    _correct(backfill, customer_id, changes, now=now)
    _add(backfill, customer_id, new, now=now)
    for outcome in StagedEvent.Outcome:
        chosen = [each.id for each in staged if each.outcome == outcome]
        if chosen:
            StagedEvent.objects.filter(
                customer_id=customer_id, backfill_id=backfill.id, id__in=chosen
            ).update(outcome=outcome, applied_at=now)


def _outcome(backfill: Backfill, staged: StagedEvent, standing: InForce) -> StagedEvent.Outcome:
    event = standing.event
    if (standing.usage, standing.properties) == (staged.usage, staged.properties) and (
        event.type == backfill.event_type and event.occurred_at == staged.occurred_at
    ):
        return StagedEvent.Outcome.SAME
    may_replace = (
        backfill.mode == Backfill.Mode.REPLACE
        and event.type == backfill.event_type
        and event.occurred_at == staged.occurred_at  # no correction moves an event
        and not standing.void
    )
    return StagedEvent.Outcome.AMENDED if may_replace else StagedEvent.Outcome.REFUSED


def _correct(
    backfill: Backfill, customer_id: int, changes: Sequence[_Change], *, now: datetime
) -> None:
    """Write corrections. The caller has raised the customer's version."""
    if not changes:
        return
    books = Recounting(
        customer_id,
        moments=[place for standing, _, usage, _ in changes for place in moments(standing, usage)],
    )
    for standing, kind, usage, properties in changes:
        put(
            standing,
            books=books,
            kind=kind,
            usage=usage,
            properties=properties,
            reason=backfill.reason,
            actor=backfill.actor,
            now=now,
            backfill_id=backfill.id,
        )
    books.write(now=now)


def _add(
    backfill: Backfill, customer_id: int, new: Sequence[StagedEvent], *, now: datetime
) -> None:
    """Write events that were not there. The caller has raised the customer's version."""
    if not new:
        return
    books = Recounting(customer_id, moments=_moments(new))
    rows = [
        UsageEvent(
            customer_id=customer_id,
            id=each.id,
            received_month=now.date().replace(day=1),
            source=each.source,
            external_id=each.external_id,
            type=backfill.event_type,
            occurred_at=each.occurred_at,
            received_at=now,
            usage=each.usage,
            properties=each.properties,
            paid_by=books.change(
                at=each.occurred_at,
                before={},
                after=each.usage,
                properties=each.properties,
            ),
            fingerprint=each.fingerprint,
        )
        for each in new
    ]
    UsageEvent.objects.bulk_create(rows, batch_size=1_000)
    books.write(now=now)


def _moments(staged: Iterable[StagedEvent]) -> list[tuple[int, datetime]]:
    return [(int(key), each.occurred_at) for each in staged for key in each.usage]
