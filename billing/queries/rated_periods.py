"""What a period of a subscription costs, from the plan's versions and the usage known now.

A period is cut into spans, one per plan version it stood under. Usage of a span is rated by the
span's version, starting from where the tiers stood before: rate(after) - rate(before).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from billing.domain.invoices import InvoiceDraft, LineDraft, LineKind, assemble
from billing.domain.periods import Period
from billing.domain.prices import decimal_text, parse_price, price_to_json
from billing.domain.rating import rate, tiers_to_json
from billing.models import PlanEntitlement
from billing.queries.coupons import discount_lines
from billing.queries.customer_terms import rights_with
from billing.queries.included import included_of, window_unit
from billing.queries.overage import Overage, overages
from billing.queries.period_fees import fee_lines, minimum
from billing.queries.spans import PeriodBasis, Span
from metering.domain.windows import anchored_window
from metering.models import Meter


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
    """`draft` has the period's own fee, usage and minimum lines, and what coupons take off."""

    draft: InvoiceDraft
    usage: tuple[RatedUsage, ...]


def rated_period(
    customer_id: int, *, spans: Sequence[Span], period: Period, basis: PeriodBasis
) -> RatedPeriod:
    """Rate a period as things are known now; the same question gets the same answer.

    `spans` reach from where the period began (`billed_spans`); what of them lies before `period`
    is on interim invoices and counts toward the minimum.
    """
    currency = spans[-1].version.currency
    earlier, current = _cut(spans, at=period.start_at)
    usage = rated_usage(customer_id, spans=current, basis=basis)
    whole = basis.served and not basis.interim
    least = minimum(spans, basis=basis) if whole else 0
    before = rated_usage(customer_id, spans=earlier, basis=basis) if least else ()
    draft = assemble(
        currency=currency,
        period=period,
        fees=fee_lines(spans, basis=basis) if whole else (),
        usage=[rated.line for rated in usage if rated.used],
        minimum=least,
        spent_before=sum(rated.amount for rated in before),
    )
    discounts = discount_lines(
        customer_id, charges=draft.lines, period=period, currency=currency, interim=basis.interim
    )
    return RatedPeriod(replace(draft, lines=(*draft.lines, *discounts)), tuple(usage))


def _cut(spans: Sequence[Span], *, at: datetime) -> tuple[list[Span], list[Span]]:
    """The spans before and from `at` on; one that lies around it is cut in two."""
    earlier = [
        replace(span, period=Period(span.period.start_at, min(span.period.end_at, at)))
        for span in spans
        if span.period.start_at < at
    ]
    current = [
        replace(span, period=Period(max(span.period.start_at, at), span.period.end_at))
        for span in spans
        if span.period.end_at > at
    ]
    return earlier, current


def rated_usage(customer_id: int, *, spans: Sequence[Span], basis: PeriodBasis) -> list[RatedUsage]:
    """The usage of every meter that is sold past what is included, span by span."""
    rights = [(span, right) for span in spans for right in billed_rights(span)]
    meters = overages(
        customer_id,
        meter_ids=sorted({right.meter_id for _, right in rights if right.meter_id is not None}),
        spans=[span.period for span in spans],
        anchor_at=basis.anchor_at,
    )
    found = []
    for span, right in rights:
        assert right.meter_id is not None
        overage = meters[right.meter_id]
        found.append(_rate_usage(right, span=span, basis=basis, overage=overage))
    return found


def billed_rights(span: Span) -> list[PlanEntitlement]:
    """The rights of a span whose overage is billed, in the order of their meters' keys."""
    rights = [
        right
        for right in rights_with(span.version, span.overrides)
        if right.over == "bill" and not right.unlimited
    ]
    return sorted(rights, key=lambda right: right.meter.key if right.meter else "")


def _rate_usage(
    right: PlanEntitlement, *, span: Span, basis: PeriodBasis, overage: Overage
) -> RatedUsage:
    assert right.meter is not None
    version, period = span.version, span.period
    unit = window_unit(right, version=version)
    included = included_of(right, span=span, anchor_at=basis.anchor_at)
    before = overage.billed(
        included, unit=unit, start_at=basis.whole.start_at, end_at=period.start_at
    )
    billed = overage.billed(included, unit=unit, start_at=period.start_at, end_at=period.end_at)
    given = included(*anchored_window(basis.anchor_at, unit=unit, at=period.start_at))
    used = overage.used(period.start_at, period.end_at)
    price = parse_price(right.price)
    was = rate(price, quantity=before, currency=version.currency)
    now = rate(price, quantity=before + billed, currency=version.currency)
    amount = now.amount_minor - was.amount_minor
    past = f" past the {given:,} included" if given else ""
    detail: dict[str, object] = {
        "plan": version.plan.key,
        "version": version.public_id,
        "used": used,
        "included": given,
        "granted": overage.granted(period.start_at, period.end_at),
        "price": price_to_json(price),
        "amount": decimal_text(now.amount - was.amount),
        "tiers": tiers_to_json(now.tiers),
    }
    agreed = [each.public_id for each in span.overrides if each.meter_id == right.meter_id]
    if agreed:
        detail["overrides"] = agreed
    if given != right.included:
        detail["included_in_whole"] = right.included
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
