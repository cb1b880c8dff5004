"""What is kept only for a time: denials, closed holds, what gateways got wrong."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from uuid import UUID

import structlog
from django.db import transaction

from accounts.operations.versions import bump
from metering.domain.retention import holds_kept_from
from metering.models import Denial, GatewayFault, Hold, HoldReach

log = structlog.get_logger(__name__)
DENIALS_KEPT = timedelta(days=31)
GATEWAY_FAULTS_KEPT = timedelta(days=30)
_ONE = 1  # the id of the one row of HoldReach


def forget_denials(*, now: datetime) -> int:
    """Delete denials last seen more than 31 days ago; returns how many rows there were."""
    deleted, _ = Denial.objects.filter(last_at__lt=now - DENIALS_KEPT).delete()
    return deleted


def forget_gateway_faults(*, now: datetime) -> int:
    """Delete faults of gateways that were last seen more than 30 days ago; returns how many."""
    deleted, _ = GatewayFault.objects.filter(last_at__lt=now - GATEWAY_FAULTS_KEPT).delete()
    return deleted


def forget_holds(*, now: datetime, limit: int, pieces: int) -> int:
    """Delete holds that were closed before ids are remembered; returns how many.

    Once a month that begins a walk through all holds by their primary key, because an index of
    the times would cost every closing and the walk reads some four holds for one that goes. A call
    takes `pieces` steps of `limit` holds at most and goes on where the last one ended. Open holds
    stay, however old; an expired one that is settled late begins its time anew. Two workers at
    once, or one that is killed between deleting and noting, look at a piece twice.
    """
    deleted = 0
    for _ in range(pieces):
        reach = _reach(holds_kept_from(now))
        if reach.done:
            break
        piece = _piece(reach, limit=limit)
        due = [row for row in piece if row[2] is not None and row[2] < reach.before]
        for customer_id, rows in groupby(due, key=itemgetter(0)):
            deleted += _forget_of(customer_id, [row[1] for row in rows], before=reach.before)
        if not _note(reach, piece, done=len(piece) < limit):
            break  # another worker was faster
    if deleted:
        log.info("holds.forgotten", holds=deleted)
    return deleted


def _reach(before: datetime) -> HoldReach:
    """How far the walk under way is; a new one begins only when the last one is done."""
    reach, _ = HoldReach.objects.get_or_create(id=_ONE, defaults={"before": before})
    if reach.done and reach.before < before:
        HoldReach.objects.filter(id=_ONE, done=True, before=reach.before).update(
            before=before, after_customer=0, after_hold=UUID(int=0), done=False
        )
        reach.refresh_from_db()
    return reach


def _piece(reach: HoldReach, *, limit: int) -> list[tuple[int, UUID, datetime | None]]:
    after = (reach.after_customer, reach.after_hold)
    holds = Hold.objects.filter(pk__gt=after).order_by("customer_id", "id")
    return list(holds.values_list("customer_id", "id", "closed_at")[:limit])


def _forget_of(customer_id: int, hold_ids: list[UUID], *, before: datetime) -> int:
    """Delete those of them that are still closed since before then.

    Begun by raising the version: a late settle at the same moment either came first, and then the
    hold was closed anew, or finds that there is no such hold.
    """
    with transaction.atomic():
        bump(customer_id)
        deleted, _ = Hold.objects.filter(
            customer_id=customer_id, id__in=hold_ids, closed_at__lt=before
        ).delete()
    return deleted


def _note(reach: HoldReach, piece: list[tuple[int, UUID, datetime | None]], *, done: bool) -> bool:
    """Write down how far the walk is now; False where it is no longer where it was."""
    changes: dict[str, object] = {"done": done}
    if piece:
        changes["after_customer"], changes["after_hold"], _ = piece[-1]
    here = HoldReach.objects.filter(
        id=_ONE,
        before=reach.before,
        after_customer=reach.after_customer,
        after_hold=reach.after_hold,
        done=False,
    )
    return bool(here.update(**changes))
