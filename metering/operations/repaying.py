"""Who pays for the events of a window that was counted anew: grants go back, or to other events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import F, Max

from accounts.domain import ids
from metering.domain.account import Account, BalanceKey, Terms
from metering.domain.burndown import Deltas, burn_grants
from metering.domain.meters import Aggregation
from metering.domain.recounting import Payer, Shares, give_back_grants, share_out
from metering.domain.windows import RATE_UNITS
from metering.models import Balance, Correction, EffectiveEvent, Grant, UsageEvent
from metering.models.hours import occurred_within
from metering.queries.corrections import InForce, in_force

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
REASON_MAX = 500


@dataclass(frozen=True, slots=True)
class Touched:
    """A corrected event, and a meter on which it counted and that does not add up."""

    meter_id: int
    kind: Aggregation
    at: datetime
    event_id: UUID


@dataclass(frozen=True, slots=True)
class Window:
    """A window of a present right that corrected events lie in."""

    terms: Terms
    key: BalanceKey
    end_at: datetime
    kind: Aggregation
    touched: list[Touched]

    @property
    def from_at(self) -> datetime:
        """Where its events begin: a lifetime has what came before its anchor as well."""
        return LONG_AGO if self.terms.window == "lifetime" else self.key[2]

    @property
    def burns(self) -> bool:
        """Whether grants pay what is used past what is included."""
        return self.terms.window not in RATE_UNITS and self.kind is not Aggregation.LATEST


def write_grants(customer_id: int, deltas: Deltas) -> None:
    """Write what was burned of grants. The caller has raised the customer's version."""
    for grant_id, (used, _) in sorted(deltas.grants.items()):
        if used:
            Grant.objects.filter(customer_id=customer_id, id=grant_id).update(used=F("used") + used)


def settle(account: Account, window: Window, *, used: int, now: datetime) -> int:
    """Let grants pay what the window needs of them; returns how much that is. The caller has
    raised the customer's version, and writes it to the window."""
    included = window.terms.included_until(window.end_at)
    wanted = 0 if window.terms.unlimited else max(used - included, 0)
    paid = _grant_used(account.customer_id, window)
    events = list(_payers(account.customer_id, window))
    heir, most = _heir(account.customer_id, window)
    if sum(sum(each.grants.values()) for each in events) == paid:
        order = [str(grant.id) for grant in account.grants.get(window.key[0], ())]
        shares = share_out(events, wanted=wanted, order=order, heir=heir)
    else:
        # Under earlier terms other windows had burned them: what others pay here is not known.
        for each in window.touched:
            release(account, each)
        paid, events, shares = _grant_used(account.customer_id, window), [], Shares({}, {})
    deltas = Deltas()
    for grant_id, quantity in shares.returned.items():
        deltas.grant(int(grant_id))[0] -= quantity
        for grant in account.grants.get(window.key[0], ()):
            if str(grant.id) == grant_id:
                grant.used -= quantity
    paid -= sum(shares.returned.values())
    rest = min(wanted - paid, most)
    if heir is not None and rest > 0:
        at = next(each.at for each in window.touched if each.event_id == heir)
        burned = burn_grants(account, deltas, meter_id=window.key[0], rest=rest, at=at, hold=False)
        mine = shares.paid.setdefault(heir, {})
        for grant_id, quantity in burned.items():
            mine[grant_id] = mine.get(grant_id, 0) + quantity
        paid += sum(burned.values())
    write_grants(account.customer_id, deltas)
    before = {each.event_id: dict(each.grants) for each in events}
    changed = {key: mine for key, mine in shares.paid.items() if mine != before.get(key, {})}
    _write_payers(account.customer_id, changed, window, now=now)
    return paid


def _grant_used(customer_id: int, window: Window) -> int:
    meter_id, unit, start_at = window.key
    row = Balance.objects.filter(
        customer_id=customer_id, meter_id=meter_id, window=unit, start_at=start_at
    ).first()
    return 0 if row is None else row.grant_used


def _ids(window: Window) -> set[UUID]:
    return {each.event_id for each in window.touched}


def _payers(customer_id: int, window: Window) -> Iterable[Payer]:
    number = str(window.key[0])
    touched = _ids(window)
    for event in EffectiveEvent.objects.filter(
        occurred_within(window.from_at, window.end_at),
        customer_id=customer_id,
        paid_by__has_key=number,
    ):
        yield Payer(
            event_id=event.id,
            at=event.occurred_at,
            counts=number in event.usage,
            touched=event.id in touched,
            grants=(event.paid_by or {})[number]["grants"],
        )


def _heir(customer_id: int, window: Window) -> tuple[UUID | None, int]:
    """Whom grants go on to pay for: the last corrected event that still counts, else any other.

    And how much more they may pay: no more than what the corrected events count as.
    """
    number = str(window.key[0])
    standing = in_force(customer_id, event_ids=_ids(window))
    counting = [each for each in standing.values() if number in each.usage]
    if counting:
        last = max(counting, key=lambda each: (each.event.occurred_at, each.event.id))
        unique = window.kind is Aggregation.UNIQUE
        return last.event.id, sum(1 if unique else int(each.usage[number]) for each in counting)
    other = (
        EffectiveEvent.objects.filter(
            occurred_within(window.from_at, window.end_at),
            customer_id=customer_id,
            usage__has_key=number,
        )
        .order_by("occurred_at", "id")
        .first()
    )
    return (None if other is None else other.id), 0


def release(account: Account, touched: Touched) -> None:
    """Return what a corrected event had burned to where it was. The caller has raised the
    customer's version."""
    number = str(touched.meter_id)
    standing = in_force(account.customer_id, event_ids=[touched.event_id])[touched.event_id]
    paid_by = standing.paid_by or {}
    allocation = paid_by.get(number)
    if allocation is None:
        return
    deltas = Deltas()
    give_back_grants(
        account, deltas, meter_id=touched.meter_id, allocation=allocation, at=touched.at
    )
    for (meter_id, unit, start_at), change in deltas.balances.items():
        Balance.objects.filter(
            customer_id=account.customer_id, meter_id=meter_id, window=unit, start_at=start_at
        ).update(grant_used=F("grant_used") + change.grant_used)
    write_grants(account.customer_id, deltas)
    _rewrite(standing, {key: each for key, each in paid_by.items() if key != number})


def _write_payers(
    customer_id: int, changed: Mapping[UUID, Mapping[str, int]], window: Window, *, now: datetime
) -> None:
    """Write who pays now: into the corrections just made, and for other events beside them."""
    meter_id, unit, start_at = window.key
    number, touched = str(meter_id), _ids(window)
    found = in_force(customer_id, event_ids=[*changed, *touched])
    cause = next(found[each.event_id] for each in window.touched)
    for event_id, grants in changed.items():
        standing = found[event_id]
        paid_by = {key: each for key, each in (standing.paid_by or {}).items() if key != number}
        if grants:
            place = [[unit, int(start_at.timestamp())]]
            paid_by[number] = {
                "q": standing.usage[number],
                "grants": dict(grants),
                "windows": place,
            }
        if event_id in touched:
            _rewrite(standing, paid_by)
        else:
            repay(standing, paid_by=paid_by, cause=cause, now=now)


def _rewrite(standing: InForce, paid_by: Mapping[str, Any]) -> None:
    """Complete a correction that this transaction has made."""
    assert standing.correction is not None
    Correction.objects.filter(
        customer_id=standing.event.customer_id,
        event_id=standing.event.id,
        number=standing.correction.number,
    ).update(paid_by=dict(paid_by) or None)


def repay(
    standing: InForce, *, paid_by: Mapping[str, Any], cause: InForce, now: datetime
) -> Correction:
    """Note that other grants pay for an event because of another event's correction."""
    fix = cause.correction
    assert fix is not None, "only a correction moves payments"
    origin = ids.encode_owned(
        UsageEvent.PREFIX, customer_id=cause.event.customer_id, key=cause.event.id
    )
    return supersede(
        standing,
        kind=Correction.Kind.REPAY,
        usage=standing.usage,
        properties=standing.properties,
        paid_by=dict(paid_by) or None,
        reason=f"{origin} was corrected: {fix.reason}"[:REASON_MAX],
        actor=fix.actor,
        backfill_id=fix.backfill_id,
        now=now,
    )


def supersede(
    standing: InForce,
    *,
    kind: Correction.Kind,
    usage: Mapping[str, int | str],
    properties: Mapping[str, Any] | None,
    paid_by: Mapping[str, Any] | None,
    reason: str,
    actor: str,
    backfill_id: int | None,
    now: datetime,
) -> Correction:
    """Put a correction in force in the place of what stood."""
    event, current = standing.event, standing.correction
    of_the_id = Correction.objects.filter(customer_id=event.customer_id, event_id=event.id)
    if current is not None:
        # `update` and not `save`: a correction is found by its customer, event and number.
        of_the_id.filter(number=current.number).update(superseded_at=now)
    return Correction.objects.create(
        customer_id=event.customer_id,
        event_id=event.id,
        received_month=event.received_month,
        number=1 + (of_the_id.aggregate(last=Max("number"))["last"] or 0),
        kind=kind,
        occurred_at=event.occurred_at,
        usage=dict(usage),
        properties=None if properties is None else dict(properties),
        paid_by=paid_by,
        reason=reason,
        actor=actor,
        at=now,
        backfill_id=backfill_id,
    )
