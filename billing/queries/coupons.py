"""Which coupons count on which bill, and what they take off it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from billing.domain.discounts import Discount, Taken, applies, take_off
from billing.domain.invoices import LineDraft, LineKind
from billing.domain.periods import Period
from billing.domain.prices import decimal_text
from billing.models import Coupon, CouponRedemption, Invoice, InvoiceLine
from billing.queries.peers import Peers

_DISCOUNTED = (LineKind.FEE, LineKind.USAGE, LineKind.MINIMUM, LineKind.PRORATION)


@dataclass(frozen=True, slots=True)
class _Charge:
    """A charge of a period, whichever kind of line says it."""

    amount: int
    plan: str | None


def coupons() -> QuerySet[Coupon]:
    """All of them, newest first, with the plans they are for."""
    return Coupon.objects.prefetch_related("plans").order_by("-id")


def redemptions(customer_id: int) -> QuerySet[CouponRedemption]:
    """What a customer redeemed, newest first, over or not."""
    found = CouponRedemption.objects.filter(customer_id=customer_id).select_related("coupon")
    return found.prefetch_related("coupon__plans").order_by("-id")


def discount_of(coupon: Coupon) -> Discount:
    """The terms of a coupon as the rules know them."""
    return Discount(percent=coupon.percent, amounts=coupon.amounts or None)


def periods_left(redemption: CouponRedemption) -> int | None:
    """In how many periods it still counts, the one under way included; None: in all."""
    if redemption.ended_at is not None:
        return 0
    periods = redemption.coupon.periods
    return None if periods is None else max(0, periods - _bills_since(redemption))


def _bills_since(redemption: CouponRedemption) -> int:
    """How many periods of the customer ended after it was redeemed and are drafted or invoiced.
    Voided ones count, so that this never becomes less."""
    bills = _bills_of([redemption.customer_id]).get(redemption.customer_id, [])
    return len({start_at for start_at, end_at in bills if end_at > redemption.redeemed_at})


def _bills_of(customer_ids: Sequence[int]) -> dict[int, list[tuple[datetime, datetime]]]:
    """Where the drafted and invoiced periods of customers began and ended."""
    rows = Invoice.objects.filter(
        customer_id__in=customer_ids,
        subscription__isnull=False,
        basis__interim__isnull=True,  # those are no bills of a period
    ).values_list("customer_id", "period_start_at", "period_end_at")
    found: dict[int, list[tuple[datetime, datetime]]] = {}
    for customer_id, start_at, end_at in rows:
        found.setdefault(customer_id, []).append((start_at, end_at))
    return found


def _redemptions_of(customer_ids: Sequence[int]) -> dict[int, list[CouponRedemption]]:
    """What customers redeemed, in the order in which they did."""
    rows = CouponRedemption.objects.filter(customer_id__in=customer_ids).select_related("coupon")
    found: dict[int, list[CouponRedemption]] = {}
    for each in rows.prefetch_related("coupon__plans").order_by("redeemed_at", "id"):
        found.setdefault(each.customer_id, []).append(each)
    return found


def discount_lines(
    customer_id: int,
    *,
    charges: Sequence[LineDraft],
    period: Period,
    currency: str,
    interim: bool = False,
    peers: Peers,
) -> list[LineDraft]:
    """What the customer's coupons take off these charges of a period, a line for each.

    Amounts are taken off once in a period, so not by an `interim` invoice of it.
    """
    counting = _counting(customer_id, period=period, interim=interim, peers=peers)
    if not counting or not charges:
        return []
    given = [_Charge(line.amount, _plan(line.detail)) for line in charges]
    return [
        _line(
            redemption,
            amount=taken.amount,
            period=period,
            currency=currency,
            detail={
                "base": taken.base,
                "taken": taken.amount,
                # Of which charges, by their places on the invoice.
                "shares": {
                    str(place): share for place, share in enumerate(taken.shares, start=1) if share
                },
            },
        )
        for redemption, taken in zip(counting, _taken(counting, given, currency), strict=True)
        if taken.amount
    ]


def discount_adjustments(
    adjustments: Sequence[LineDraft], *, invoices: Iterable[Invoice], peers: Peers
) -> list[LineDraft]:
    """What the coupons of earlier `invoices` make of `adjustments` of their usage: what they would
    have taken off less what they did, so that late usage is as cheap as usage in time."""
    return [line for invoice in invoices for line in _adjusted(invoice, adjustments, peers=peers)]


def _adjusted(
    invoice: Invoice, adjustments: Sequence[LineDraft], *, peers: Peers
) -> list[LineDraft]:
    period = Period(invoice.period_start_at, invoice.period_end_at)
    interim = bool(invoice.basis.get("interim"))
    counting = _counting(invoice.customer_id, period=period, interim=interim, peers=peers)
    new = [line for line in adjustments if line.detail.get("adjusts") == invoice.public_id]
    if not counting or not new:
        return []
    charges = [_Charge(line.amount, _plan(line.detail)) for line in new]
    given: dict[str, int] = {}
    for row in (*invoice.lines.all(), *_adjusting(invoice)):
        if row.kind == InvoiceLine.Kind.DISCOUNT:
            by = str(row.detail["redemption"])
            given[by] = given.get(by, 0) - row.amount
        elif row.kind in _DISCOUNTED or "adjusts" in row.detail:
            charges.append(_Charge(row.amount, _plan(row.detail)))
    lines = []
    for redemption, taken in zip(
        counting, _taken(counting, charges, invoice.currency), strict=True
    ):
        before = given.get(redemption.public_id, 0)
        if taken.amount != before:
            detail = {"base": taken.base, "taken": taken.amount, "before": before}
            line = _line(
                redemption,
                amount=taken.amount - before,
                period=period,
                currency=invoice.currency,
                detail={**detail, "adjusts": invoice.public_id},
            )
            lines.append(line)
    return lines


def _adjusting(invoice: Invoice) -> QuerySet[InvoiceLine]:
    """The lines of later invoices that put this one right."""
    issued = InvoiceLine.objects.filter(invoice__customer_id=invoice.customer_id)
    issued = issued.exclude(invoice__status=Invoice.Status.DRAFT)
    return issued.filter(detail__adjusts=invoice.public_id)


def _counting(
    customer_id: int, *, period: Period, interim: bool, peers: Peers
) -> list[CouponRedemption]:
    """The redemptions that count in this period, in the order in which they were made."""
    redeemed = peers.ask(_redemptions_of, customer_id)
    if not redeemed:
        return []
    earlier = [
        bill for bill in peers.ask(_bills_of, customer_id) or () if bill[0] < period.start_at
    ]
    return [
        each
        for each in redeemed
        if applies(
            each.coupon.periods,
            index=len({start_at for start_at, end_at in earlier if end_at > each.redeemed_at}),
            redeemed_at=each.redeemed_at,
            ended_at=each.ended_at,
            end_at=period.end_at,
        )
        and not (interim and each.coupon.percent is None)
    ]


def _taken(
    counting: Sequence[CouponRedemption], charges: Sequence[_Charge], currency: str
) -> list[Taken]:
    discounts = []
    for redemption in counting:
        plans = {plan.key for plan in redemption.coupon.plans.all()}
        chosen = [not plans or charge.plan in plans for charge in charges]
        discounts.append((discount_of(redemption.coupon), chosen))
    amounts = [charge.amount for charge in charges]
    return take_off(amounts, discounts=discounts, currency=currency)


def _plan(detail: object) -> str | None:
    found = detail.get("plan") if isinstance(detail, dict) else None
    return None if found is None else str(found)


def _line(
    redemption: CouponRedemption,
    *,
    amount: int,
    period: Period,
    currency: str,
    detail: Mapping[str, object],
) -> LineDraft:
    coupon, terms = redemption.coupon, discount_of(redemption.coupon)
    known: dict[str, object] = {"coupon": coupon.code, "redemption": redemption.public_id}
    if terms.percent is not None:
        known["percent"] = decimal_text(terms.percent)
    else:
        known["most"] = coupon.amounts.get(currency, 0)
    words = f"{coupon.name} ({coupon.code}): {terms.words(currency=currency)}"
    return LineDraft(LineKind.DISCOUNT, words, -amount, period, detail={**known, **detail})
