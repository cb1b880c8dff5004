"""A customer's spend limits, and what the gate must know of the period to keep to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from billing.domain.money import currency_of
from billing.domain.periods import Period
from billing.domain.prices import parse_price
from billing.domain.rating import rate
from billing.models import SpendLimit, Subscription
from billing.queries.included import included_of, window_unit
from billing.queries.overage import Overage
from billing.queries.payment_methods import frozen
from billing.queries.peers import Peers
from billing.queries.rated_periods import RatedUsage, Terms, rated_usage
from billing.queries.spans import PeriodBasis, Span, current_basis, spans
from metering.domain import spending
from metering.domain.account import Account
from metering.domain.decisions import Denied, Item, decide
from metering.domain.meters import QUANTITY_MAX
from metering.domain.spend_limits import spent
from metering.domain.windows import anchored_window
from metering.models import Meter
from metering.queries.standing import account_of


@dataclass(frozen=True, slots=True)
class Admitted:
    """How much of a billed meter one call could have now; None: any quantity."""

    meter: str
    quantity: int | None


@dataclass(frozen=True, slots=True)
class SpendLimitView:
    """Both limits, the lower of which counts (`cap`, `set_by`), in minor units of `currency`.

    `spent` so far in the billing period, open holds included, and when that begins anew; None
    where no subscription gives anything that is billed. `admits`: what the limit has become in
    quantities, as the gate would answer now.
    """

    currency: str
    customer: int | None
    operator: int | None
    cap: int | None
    set_by: str | None
    spent: int | None
    resets_at: datetime | None
    admits: tuple[Admitted, ...] = ()

    @property
    def remaining(self) -> int | None:
        """What of the limit is left to spend."""
        if self.cap is None or self.spent is None:
            return None
        return max(self.cap - self.spent, 0)


def limits_spending(customer_id: int, *, peers: Peers) -> bool:
    """Whether there is any spend limit, or overage is frozen."""
    return peers.ask(limited, customer_id) is not None


def limited(customer_ids: Sequence[int]) -> dict[int, bool]:
    """The customers whose spending is limited, each True."""
    rows = SpendLimit.objects.filter(customer_id__in=customer_ids)
    found = rows.values_list("customer_id", flat=True)
    return dict.fromkeys([*found, *frozen(customer_ids)], True)


def spend_limit_view(customer_id: int, *, currency: str, now: datetime) -> SpendLimitView:
    """The limits, and what of them is spent."""
    amounts = _amounts(customer_id)
    cap = min((each for each in amounts.values() if each is not None), default=None)
    account = account_of(customer_id, now=now)
    limit = account.spend_limit
    return SpendLimitView(
        currency=currency,
        customer=amounts["customer"],
        operator=amounts["operator"],
        cap=cap,
        set_by=next((name for name in amounts if cap is not None and amounts[name] == cap), None),
        spent=spent(account, at=now) if limit else None,
        resets_at=limit.period(now)[1] if limit else None,
        admits=_admitted(account, now=now),
    )


def _admitted(account: Account, *, now: datetime) -> tuple[Admitted, ...]:
    """For each meter whose overage has a price: what `decide` would let through."""
    priced = [
        meter_id
        for meter_id, rights in account.terms.items()
        if any(each.curve is not None for each in rights)
    ]
    found = []
    for meter in Meter.objects.filter(id__in=priced).order_by("key"):
        answer = decide(account, [Item(meter.key, meter.id, QUANTITY_MAX)], now=now, offers=())
        most = answer.max_admissible if isinstance(answer, Denied) else None
        found.append(Admitted(meter.key, most))
    return tuple(found)


def gate_limit(subscription: Subscription, *, now: datetime) -> spending.SpendLimit | None:
    """The limit as the gate keeps it; None where there is none, or nothing can be spent."""
    amounts = _amounts(subscription.customer_id)
    idle = (Subscription.Status.CANCELED, Subscription.Status.INCOMPLETE)
    if not any(amount is not None for amount in amounts.values()) or subscription.status in idle:
        return None
    currency, basis = currency_of(subscription.version.currency), current_basis(subscription)
    limit = spending.SpendLimit(
        customer=amounts["customer"],
        operator=amounts["operator"],
        window=subscription.version.interval,
        anchor_at=subscription.anchor_at.replace(microsecond=0),
        exponent=currency.exponent,
        step=currency.step,
    )
    if subscription.status == Subscription.Status.TRIALING:
        return limit  # nothing is billed
    begun = _begun(subscription, now=now)
    (rated,) = rated_usage([Terms(subscription.customer_id, begun, basis)])
    return replace(
        limit,
        since=basis.whole.start_at,
        carried=_carried(rated, current=begun[-1]),
        before=_before(rated, current=begun[-1], customer_id=subscription.customer_id, basis=basis),
        paid=_paid(rated, current=begun[-1], customer_id=subscription.customer_id, basis=basis),
    )


def _begun(subscription: Subscription, *, now: datetime) -> list[Span]:
    """The spans of the period under way up to the one that holds now."""
    period = Period(subscription.current_start_at, subscription.current_end_at)
    found = spans(subscription.id, period=period, peers=Peers([subscription.customer_id]))
    return [span for span in found if span.period.start_at <= now] or found[:1]


def _carried(rated: Sequence[RatedUsage], *, current: Span) -> int:
    """What earlier spans cost, less what the same units cost by the terms that hold now."""
    carried = 0
    for each in rated:
        if each.span is not current:
            carried += each.amount
        else:
            price = parse_price(each.right.price)
            cost = rate(price, quantity=each.before, currency=current.version.currency)
            carried -= cost.amount_minor
    return carried


def _before(
    rated: Sequence[RatedUsage], *, current: Span, customer_id: int, basis: PeriodBasis
) -> dict[int, int]:
    """The overage of windows that began before the period, up to there: it is billed already."""
    before = {}
    start_at = basis.whole.start_at
    for each in rated:
        unit = window_unit(each.right, version=each.span.version)
        began_at, _ = anchored_window(basis.anchor_at, unit=unit, at=start_at)
        if each.span is current and began_at < start_at:
            overage = Overage(customer_id, meter_id=each.meter.id, anchor_at=basis.anchor_at)
            included = included_of(each.right, span=current, anchor_at=basis.anchor_at)
            before[each.meter.id] = overage.billed(
                included, unit=unit, start_at=began_at, end_at=start_at
            )
    return before


def _paid(
    rated: Sequence[RatedUsage], *, current: Span, customer_id: int, basis: PeriodBasis
) -> tuple[tuple[int, int, int], ...]:
    """What grants paid under the windows of earlier terms: the invoice counts it as paid."""
    return tuple(
        (each.meter.id, int(start_at.timestamp()), paid)
        for each in rated
        if each.span is current
        for start_at, paid in Overage(
            customer_id, meter_id=each.meter.id, anchor_at=basis.anchor_at
        ).paid_elsewhere(
            unit=window_unit(each.right, version=each.span.version),
            start_at=basis.whole.start_at,
            end_at=basis.whole.end_at,
        )
    )


def _amounts(customer_id: int) -> dict[str, int | None]:
    rows = dict(SpendLimit.objects.filter(customer_id=customer_id).values_list("set_by", "amount"))
    operator = 0 if frozen([customer_id]) else rows.get("operator")
    return {"customer": rows.get("customer"), "operator": operator}
