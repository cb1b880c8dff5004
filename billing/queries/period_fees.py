"""What a period costs whether or not anything is used: the plan's fee, its seats, its minimum.

Fees are shared out by the second; whoever moves to cheaper terms inside a period gets nothing back
for it, so the dearest terms so far are charged until the period's end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from billing.domain.invoices import LineDraft, LineKind
from billing.domain.periods import Period
from billing.domain.prices import price_to_json
from billing.domain.proration import rest_of_fee
from billing.domain.rating import overage_quantity, tiers_to_json
from billing.domain.seats import parse_seats, seat_fee
from billing.models import PlanVersion
from billing.queries.spans import PeriodBasis, Span


def period_fee(version: PlanVersion, *, seats: int) -> int:
    """The fee of a whole period with so many seats, in minor units."""
    if version.seats is None:
        return version.fee
    rated = seat_fee(parse_seats(version.seats), seats=seats, currency=version.currency)
    return version.fee + rated.amount_minor


def fee_lines(spans: Sequence[Span], *, basis: PeriodBasis) -> list[LineDraft]:
    """The fee of each version that charged in the period, and of its seats."""
    lines = []
    for span, part in _charged(spans, basis=basis, cost=_fee):
        version = span.version
        amount = _share(version.fee, part=part, basis=basis, currency=version.currency)
        if amount:
            name = f"{version.plan.name} plan" + _of_period(part, basis=basis)
            detail = {"plan": version.plan.key, "version": version.public_id, "fee": version.fee}
            lines.append(LineDraft(LineKind.FEE, name, amount, part, detail=detail))
        if version.seats is not None:
            lines += _seat_lines(span, part=part, basis=basis)
    return lines


def minimum(spans: Sequence[Span], *, basis: PeriodBasis) -> int:
    """What fee and usage of the period come to at least, in minor units."""
    return sum(
        _share(span.version.minimum, part=part, basis=basis, currency=span.version.currency)
        for span, part in _charged(spans, basis=basis, cost=_committed)
    )


def _fee(span: Span) -> int:
    return period_fee(span.version, seats=span.seats)


def _committed(span: Span) -> int:
    return span.version.minimum


def _charged(
    spans: Sequence[Span], *, basis: PeriodBasis, cost: Callable[[Span], int]
) -> list[tuple[Span, Period]]:
    """Who charges when, up to the end of the whole period: the dearest terms so far."""
    charged: list[tuple[Span, Period]] = []
    for index, span in enumerate(spans):
        dearest = span
        start_at = span.period.start_at
        last = index == len(spans) - 1
        end_at = basis.whole.end_at if last else spans[index + 1].period.start_at
        if charged and cost(charged[-1][0]) >= cost(span):
            dearest, period = charged.pop()
            start_at = period.start_at
        charged.append((dearest, Period(start_at, end_at)))
    return charged


def _seat_lines(span: Span, *, part: Period, basis: PeriodBasis) -> list[LineDraft]:
    version, terms = span.version, parse_seats(span.version.seats)
    rated = seat_fee(terms, seats=span.seats, currency=version.currency)
    amount = _share(rated.amount_minor, part=part, basis=basis, currency=version.currency)
    if not amount:
        return []
    billed = overage_quantity(span.seats, included=terms.included)
    past = f" past the {terms.included:,} included" if terms.included else ""
    text = f"{version.plan.name} plan: {billed:,} seat{'s'[: billed != 1]}{past}"
    detail = {
        "plan": version.plan.key,
        "version": version.public_id,
        "seats": span.seats,
        "included": terms.included,
        "price": price_to_json(terms.price),
        "fee": rated.amount_minor,
        "tiers": tiers_to_json(rated.tiers),
    }
    text += _of_period(part, basis=basis)
    return [LineDraft(LineKind.FEE, text, amount, part, quantity=billed, detail=detail)]


def _share(amount: int, *, part: Period, basis: PeriodBasis, currency: str) -> int:
    if not amount:
        return 0
    rest = [
        rest_of_fee(amount, period=basis.whole, at=at, currency=currency)
        for at in (part.start_at, part.end_at)
    ]
    return rest[0] - rest[1]


def _of_period(part: Period, *, basis: PeriodBasis) -> str:
    if part == basis.whole:
        return ""
    days = (basis.whole.seconds + 43_200) // 86_400
    return f", {part.start_at:%F} to {part.end_at:%F} of {days} day{'' if days == 1 else 's'}"
