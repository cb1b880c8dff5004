"""What a period of a subscription costs, from the plan's versions and the usage known now.

A period is cut into spans, one per plan version it stood under. Usage of a span is rated by the
span's version, starting from where the tiers stood before: rate(after) - rate(before).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from billing.domain.invoices import InvoiceDraft, LineDraft, LineKind, assemble
from billing.domain.periods import Period
from billing.domain.prices import Price, decimal_text, parse_price, price_to_json
from billing.domain.rating import rate, tiers_to_json
from billing.models import PlanEntitlement
from billing.queries.coupons import discount_lines
from billing.queries.customer_terms import rights_with
from billing.queries.included import included_of, window_at, window_unit
from billing.queries.overage import KnownUsage, Overage
from billing.queries.peers import Peers
from billing.queries.period_fees import fee_lines, minimum
from billing.queries.spans import PeriodBasis, Span
from metering.models import Meter
from metering.queries.usage import UsageOf


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


@dataclass(frozen=True, slots=True)
class Terms:
    """What is rated: a customer's usage in these spans."""

    customer_id: int
    spans: Sequence[Span]
    basis: PeriodBasis


@dataclass(frozen=True, slots=True)
class PeriodTerms(Terms):
    """What an invoice of `period` is rated from: `spans` reach from where the period began
    (`billed_spans`); what of them lies before `period` is on interim invoices and counts toward
    the minimum."""

    period: Period


def rated_period(asked: PeriodTerms, *, peers: Peers) -> RatedPeriod:
    """`rated_periods` of one."""
    return rated_periods([asked], peers=peers)[0]


def rated_periods(asked: Sequence[PeriodTerms], *, peers: Peers) -> list[RatedPeriod]:
    """Rate periods of the peers as things are known now; the same question gets the same answer.

    They are rated each by itself; what is known is read for all of them at once.
    """
    least = [minimum(each.spans, basis=each.basis) if _whole(each.basis) else 0 for each in asked]
    cuts = [_cut(each.spans, at=each.period.start_at) for each in asked]
    usage = rated_usage(
        [
            Terms(each.customer_id, spans, each.basis)
            for each, wanted, (earlier, current) in zip(asked, least, cuts, strict=True)
            for spans in (current, earlier if wanted else ())
        ]
    )
    return [
        _assembled(
            each, usage=usage[2 * place], before=usage[2 * place + 1], least=wanted, peers=peers
        )
        for place, (each, wanted) in enumerate(zip(asked, least, strict=True))
    ]


def _whole(basis: PeriodBasis) -> bool:
    """Whether fees and minimum are owed, not usage alone."""
    return basis.served and not basis.interim


def _assembled(
    asked: PeriodTerms,
    *,
    usage: Sequence[RatedUsage],
    before: Sequence[RatedUsage],
    least: int,
    peers: Peers,
) -> RatedPeriod:
    currency = asked.spans[-1].version.currency
    draft = assemble(
        currency=currency,
        period=asked.period,
        fees=fee_lines(asked.spans, basis=asked.basis) if _whole(asked.basis) else (),
        usage=[rated.line for rated in usage if rated.used],
        minimum=least,
        spent_before=sum(rated.amount for rated in before),
    )
    discounts = discount_lines(
        asked.customer_id,
        charges=draft.lines,
        period=asked.period,
        currency=currency,
        interim=asked.basis.interim,
        peers=peers,
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


def rated_usage(asked: Sequence[Terms]) -> list[list[RatedUsage]]:
    """For each of these terms the usage of every meter that is sold past what is included, span by
    span. What was used is read for all of them at once."""
    known, prices = KnownUsage(), _Prices()
    sold = [
        _Sold(
            right,
            right.meter,
            span,
            each,
            window_unit(right, version=span.version),
            Overage(
                each.customer_id,
                meter_id=right.meter.pk,
                anchor_at=each.basis.anchor_at,
                known=known,
            ),
            *prices.of(right),
        )
        for each in asked
        for span in each.spans
        for right in billed_rights(span)
        if right.meter is not None
    ]
    known.read(span for each in sold for span in each.asks())
    found: dict[int, list[RatedUsage]] = {id(each): [] for each in asked}
    for each in sold:
        found[id(each.terms)].append(_rate_usage(each))
    return [found[id(each)] for each in asked]


class _Prices:
    """The prices of rights, each parsed once: many customers have the same."""

    def __init__(self) -> None:
        # With the right itself, so that no other takes its identity.
        self._known: dict[int, tuple[PlanEntitlement, Price, dict[str, object]]] = {}

    def of(self, right: PlanEntitlement) -> tuple[Price, dict[str, object]]:
        """The price, and as JSON."""
        if id(right) not in self._known:
            price = parse_price(right.price)
            self._known[id(right)] = (right, price, price_to_json(price))
        return self._known[id(right)][1:]


@dataclass(frozen=True, slots=True)
class _Sold:
    """A right whose overage is billed, in one span."""

    right: PlanEntitlement
    meter: Meter
    span: Span
    terms: Terms
    unit: str
    overage: Overage
    price: Price
    price_json: Mapping[str, object]

    def asks(self) -> Iterator[UsageOf]:
        """What must be known of usage to rate it."""
        period, whole = self.span.period, self.terms.basis.whole
        yield UsageOf(self.terms.customer_id, self.meter.id, period.start_at, period.end_at)
        yield from self.overage.spans_of(
            unit=self.unit, start_at=period.start_at, end_at=period.end_at
        )
        yield from self.overage.spans_of(
            unit=self.unit, start_at=whole.start_at, end_at=period.start_at
        )


def billed_rights(span: Span) -> list[PlanEntitlement]:
    """The rights of a span whose overage is billed, in the order of their meters' keys."""
    rights = [
        right
        for right in rights_with(span.version, span.overrides)
        if right.over == "bill" and not right.unlimited
    ]
    return sorted(rights, key=lambda right: right.meter.key if right.meter else "")


def _rate_usage(sold: _Sold) -> RatedUsage:
    right, span, basis, overage = sold.right, sold.span, sold.terms.basis, sold.overage
    version, period, unit = span.version, span.period, sold.unit
    included = included_of(right, span=span, anchor_at=basis.anchor_at)
    before = overage.billed(
        included, unit=unit, start_at=basis.whole.start_at, end_at=period.start_at
    )
    billed = overage.billed(included, unit=unit, start_at=period.start_at, end_at=period.end_at)
    given = included(*window_at(basis.anchor_at, unit=unit, at=period.start_at))
    used = overage.used(period.start_at, period.end_at)
    price = sold.price
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
        "price": sold.price_json,
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
        f"{sold.meter.key}: {billed:,}{past}",
        amount,
        period,
        meter=sold.meter.key,
        quantity=billed,
        detail=detail,
    )
    return RatedUsage(right, sold.meter, span, used, before, billed, amount, line)
