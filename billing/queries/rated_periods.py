"""What a period of a subscription costs, from the plan's versions and the usage known now.

A period is cut into spans, one per plan version it stood under. Fees are shared out by the
second; whoever moves to a cheaper plan inside a period gets nothing back for it, so the dearest
plan so far is charged until the period's end. Usage of a span is rated by the span's version,
starting from where the tiers stood before: rate(after) - rate(before).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

from django.db.models import Q

from billing.domain.invoices import InvoiceDraft, LineDraft, LineKind, assemble
from billing.domain.periods import Interval, Period, period_at
from billing.domain.prices import decimal_text, parse_price, price_to_json
from billing.domain.proration import rest_of_fee
from billing.domain.rating import rate, tiers_to_json
from billing.models import PlanEntitlement, PlanVersion, Subscription, SubscriptionPhase
from billing.queries.overage import Overage
from metering.models import Meter


@dataclass(frozen=True, slots=True)
class PeriodBasis:
    """What must be known of a period beside its phases; frozen with the invoice as JSON.

    `whole`: the anchor's period that the invoiced one lies in (a first period may begin late,
    a cancellation end it early): fees are shares of it. `served`: False where not a single call
    was admitted in it, because the subscription was paused or denied for payment throughout.
    """

    anchor_at: datetime
    whole: Period
    served: bool = True

    def to_json(self) -> dict[str, object]:
        """The form in which an invoice keeps it."""
        return {
            "anchor_at": self.anchor_at.isoformat(),
            "start_at": self.whole.start_at.isoformat(),
            "end_at": self.whole.end_at.isoformat(),
            "served": self.served,
        }

    @classmethod
    def from_json(cls, data: dict[str, object]) -> Self:
        """The inverse of `to_json`."""
        return cls(
            anchor_at=datetime.fromisoformat(str(data["anchor_at"])),
            whole=Period(
                datetime.fromisoformat(str(data["start_at"])),
                datetime.fromisoformat(str(data["end_at"])),
            ),
            served=bool(data["served"]),
        )


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a period that stood under one version."""

    version: PlanVersion
    period: Period


@dataclass(frozen=True, slots=True)
class RatedUsage:
    """The usage of one meter in one span: `used` of it in all, `billed` units past the included
    ones, which come after `before` units of the same period. `amount` in minor units."""

    right: PlanEntitlement
    meter: Meter
    span: Span
    used: int
    before: int
    billed: int
    amount: int
    line: LineDraft


@dataclass(frozen=True, slots=True)
class RatedPeriod:
    """`draft` has the period's own fee, usage and minimum lines."""

    draft: InvoiceDraft
    usage: tuple[RatedUsage, ...]


def current_basis(subscription: Subscription) -> PeriodBasis:
    """The basis of the subscription's current period, as it would be frozen now."""
    whole = period_at(
        subscription.anchor_at,
        interval=Interval(subscription.version.interval),
        at=subscription.current_start_at,
    )
    denied_at = (subscription.paused_at, subscription.grace_ends_at)
    served = not any(at is not None and at <= subscription.current_start_at for at in denied_at)
    return PeriodBasis(subscription.anchor_at, whole, served)


def spans(subscription_id: int, *, period: Period) -> list[Span]:
    """The versions under which the subscription stood in `period`, in order, without a gap."""
    phases = (
        SubscriptionPhase.objects.filter(
            Q(end_at=None) | Q(end_at__gt=period.start_at),
            subscription_id=subscription_id,
            start_at__lt=period.end_at,
        )
        .select_related("version__plan")
        .order_by("start_at")
    )
    return [
        Span(
            phase.version,
            Period(
                max(phase.start_at, period.start_at),
                min(phase.end_at or period.end_at, period.end_at),
            ),
        )
        for phase in phases
    ]


def rated_period(
    customer_id: int, *, spans: Sequence[Span], period: Period, basis: PeriodBasis
) -> RatedPeriod:
    """Rate a period as things are known now; the same question gets the same answer."""
    currency = spans[-1].version.currency
    usage = rated_usage(customer_id, spans=spans, basis=basis)
    draft = assemble(
        currency=currency,
        period=period,
        fees=_fee_lines(spans, basis=basis) if basis.served else (),
        usage=[rated.line for rated in usage if rated.used],
        minimum=_minimum(spans, basis=basis) if basis.served else 0,
    )
    return RatedPeriod(draft, tuple(usage))


def rated_usage(customer_id: int, *, spans: Sequence[Span], basis: PeriodBasis) -> list[RatedUsage]:
    """The usage of every meter that is sold past what is included, span by span."""
    meters: dict[int, Overage] = {}
    found = []
    for span in spans:
        for right in billed_rights(span.version):
            assert right.meter_id is not None
            overage = meters.setdefault(
                right.meter_id,
                Overage(customer_id, meter_id=right.meter_id, anchor_at=basis.anchor_at),
            )
            found.append(_rate_usage(right, span=span, basis=basis, overage=overage))
    return found


def billed_rights(version: PlanVersion) -> list[PlanEntitlement]:
    """The rights of a version whose overage is billed, in the order of their meters' keys."""
    rights = version.entitlements.filter(over="bill", unlimited=False, meter__isnull=False)
    return list(rights.select_related("meter").order_by("meter__key"))


def window_unit(right: PlanEntitlement, *, version: PlanVersion) -> str:
    """The unit of time in which the right counts; `period` is the plan's interval."""
    return version.interval if right.window == "period" else right.window


def _rate_usage(
    right: PlanEntitlement, *, span: Span, basis: PeriodBasis, overage: Overage
) -> RatedUsage:
    assert right.meter is not None
    version, period = span.version, span.period
    unit = window_unit(right, version=version)
    before = overage.billed(right, unit=unit, start_at=basis.whole.start_at, end_at=period.start_at)
    billed = overage.billed(right, unit=unit, start_at=period.start_at, end_at=period.end_at)
    used = overage.used(period.start_at, period.end_at)
    price = parse_price(right.price)
    was = rate(price, quantity=before, currency=version.currency)
    now = rate(price, quantity=before + billed, currency=version.currency)
    amount = now.amount_minor - was.amount_minor
    past = f" past the {right.included:,} included" if right.included else ""
    detail: dict[str, object] = {
        "plan": version.plan.key,
        "version": version.public_id,
        "used": used,
        "included": right.included,
        "granted": overage.granted(period.start_at, period.end_at),
        "price": price_to_json(price),
        "amount": decimal_text(now.amount - was.amount),
        "tiers": tiers_to_json(now.tiers),
    }
    if before:
        detail |= {"billed_before": before, "tiers_before": tiers_to_json(was.tiers)}
    line = LineDraft(
        LineKind.USAGE,
        f"{right.meter.key}: {billed:,}{past}",
        amount,
        period,
        meter=right.meter.key,
        quantity=billed,
        detail=detail,
    )
    return RatedUsage(right, right.meter, span, used, before, billed, amount, line)


def _charged(
    spans: Sequence[Span], *, basis: PeriodBasis, amount: Literal["fee", "minimum"]
) -> list[tuple[PlanVersion, Period]]:
    """Who charges when, up to the end of the whole period: the dearest version so far."""
    charged: list[tuple[PlanVersion, Period]] = []
    for index, span in enumerate(spans):
        start_at = span.period.start_at
        last = index == len(spans) - 1
        end_at = basis.whole.end_at if last else spans[index + 1].period.start_at
        version = span.version
        if charged and getattr(charged[-1][0], amount) >= getattr(version, amount):
            version, period = charged.pop()
            start_at = period.start_at
        charged.append((version, Period(start_at, end_at)))
    return charged


def _share(amount: int, *, part: Period, basis: PeriodBasis, currency: str) -> int:
    rest = [
        rest_of_fee(amount, period=basis.whole, at=at, currency=currency)
        for at in (part.start_at, part.end_at)
    ]
    return rest[0] - rest[1]


def _fee_lines(spans: Sequence[Span], *, basis: PeriodBasis) -> list[LineDraft]:
    lines = []
    for version, part in _charged(spans, basis=basis, amount="fee"):
        amount = _share(version.fee, part=part, basis=basis, currency=version.currency)
        if amount:
            name = f"{version.plan.name} plan"
            if part != basis.whole:
                name += f", {part.start_at:%F} to {part.end_at:%F} of {_days(basis.whole)}"
            detail = {"plan": version.plan.key, "version": version.public_id, "fee": version.fee}
            lines.append(LineDraft(LineKind.FEE, name, amount, part, detail=detail))
    return lines


def _days(period: Period) -> str:
    days = (period.seconds + 43_200) // 86_400
    return f"{days} day{'' if days == 1 else 's'}"


def _minimum(spans: Sequence[Span], *, basis: PeriodBasis) -> int:
    return sum(
        _share(version.minimum, part=part, basis=basis, currency=version.currency)
        for version, part in _charged(spans, basis=basis, amount="minimum")
    )
