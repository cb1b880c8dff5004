"""What an invoice says, its states, and whether its total can be collected.

A draft is lines; its total is their sum and nothing else. All amounts are integers in minor
units of the invoice's one currency; a line that is owed to the customer is negative.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from billing.domain.money import Money, currency_of, format_money
from billing.domain.periods import Period


class InvoiceTransitionRefused(Exception):
    """An invoice in this state cannot do that."""

    def __init__(self, status: InvoiceStatus, event: InvoiceEvent) -> None:
        super().__init__(f"An invoice that is {status} cannot be {event}.")
        self.status = status
        self.event = event


class InvoiceStatus(StrEnum):
    """Stripe's words. Void is final; paid is final for the invoice (refunds are postings)."""

    DRAFT = "draft"
    OPEN = "open"
    PAID = "paid"
    VOID = "void"
    UNCOLLECTIBLE = "uncollectible"


class InvoiceEvent(StrEnum):
    FINALIZED = "finalized"
    PAID = "paid"
    VOIDED = "voided"
    MARKED_UNCOLLECTIBLE = "marked_uncollectible"


_S, _E = InvoiceStatus, InvoiceEvent
# An event that led to the present state is told again by every repeated message: no change.
_TRANSITIONS: Final[Mapping[tuple[InvoiceStatus, InvoiceEvent], InvoiceStatus]] = {
    (_S.DRAFT, _E.FINALIZED): _S.OPEN,
    (_S.DRAFT, _E.VOIDED): _S.VOID,
    (_S.OPEN, _E.FINALIZED): _S.OPEN,
    (_S.OPEN, _E.PAID): _S.PAID,
    (_S.OPEN, _E.VOIDED): _S.VOID,
    (_S.OPEN, _E.MARKED_UNCOLLECTIBLE): _S.UNCOLLECTIBLE,
    (_S.UNCOLLECTIBLE, _E.MARKED_UNCOLLECTIBLE): _S.UNCOLLECTIBLE,
    (_S.UNCOLLECTIBLE, _E.PAID): _S.PAID,
    (_S.UNCOLLECTIBLE, _E.VOIDED): _S.VOID,
    (_S.PAID, _E.PAID): _S.PAID,
    (_S.VOID, _E.VOIDED): _S.VOID,
}


def next_status(status: InvoiceStatus, *, event: InvoiceEvent) -> InvoiceStatus:
    """The state after ``event``. Raises :class:`InvoiceTransitionRefused`."""
    try:
        return _TRANSITIONS[status, event]
    except KeyError:
        raise InvoiceTransitionRefused(status, event) from None


class LineKind(StrEnum):
    FEE = "fee"
    PRORATION = "proration"
    USAGE = "usage"
    ADJUSTMENT = "adjustment"
    MINIMUM = "minimum"
    DISCOUNT = "discount"
    CREDIT = "credit"
    TOP_UP = "top_up"  # of a wallet; alone on its invoice


@dataclass(frozen=True, slots=True)
class LineDraft:
    """One line. ``quantity``: billed units. ``detail``: JSON that explains the amount, frozen
    with the invoice (for usage: used, included, price, tiers, the exact amount)."""

    kind: LineKind
    description: str
    amount: int
    period: Period
    meter: str | None = None
    quantity: int | None = None
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InvoiceDraft:
    """Lines in the order in which people read them."""

    currency: str
    period: Period
    lines: tuple[LineDraft, ...]

    @property
    def total(self) -> int:
        return sum(line.amount for line in self.lines)

    def total_of(self, *kinds: LineKind) -> int:
        """The sum of the lines of these kinds."""
        return sum(line.amount for line in self.lines if line.kind in kinds)


@dataclass(frozen=True, slots=True)
class CarriedAmount:
    """What an earlier invoice was too small to collect, in minor units."""

    invoice_id: str
    amount: int


def minimum_shortfall(spent: int, *, minimum: int) -> int:
    """What is missing to the minimum that a plan commits to; 0 where it was reached."""
    return max(0, minimum - spent)


def assemble(
    *,
    currency: str,
    period: Period,
    fees: Sequence[LineDraft] = (),
    usage: Sequence[LineDraft] = (),
    adjustments: Sequence[LineDraft] = (),
    carried: Iterable[CarriedAmount] = (),
    minimum: int = 0,
    spent_before: int = 0,
    credit_available: int = 0,
) -> InvoiceDraft:
    """The invoice of one period.

    ``fees`` (with prorations) and ``usage`` count toward the plan's ``minimum``, and so does
    what interim invoices of the period billed (``spent_before``); what is missing becomes one
    line. Adjustments of earlier periods, discounts and ``carried``
    amounts come on top and do not count. Of ``credit_available`` as much is used as there is
    to pay, as a negative line; read it back with ``total_of(LineKind.CREDIT)``.
    """
    currency_of(currency)
    lines = [*fees, *usage]
    spent = spent_before + sum(line.amount for line in lines)
    if missing := minimum_shortfall(spent, minimum=minimum):
        lines.append(_minimum_line(missing, spent=spent, currency=currency, period=period))
    lines += adjustments
    lines += [_carried_line(part, period=period) for part in carried if part.amount]
    to_pay = sum(line.amount for line in lines)
    if (credit := min(credit_available, to_pay)) > 0:
        lines.append(LineDraft(LineKind.CREDIT, "Credit from your balance", -credit, period))
    return InvoiceDraft(currency, period, tuple(lines))


@dataclass(frozen=True, slots=True)
class Collect:
    """Enough to be charged."""

    amount: int


@dataclass(frozen=True, slots=True)
class Carry:
    """Owed, but less than can be charged: goes onto the next invoice."""

    amount: int


@dataclass(frozen=True, slots=True)
class Zero:
    """Nothing is owed: paid as soon as it is issued."""


@dataclass(frozen=True, slots=True)
class Credit:
    """We owe the customer ``amount`` (positive): becomes credit for the next invoices."""

    amount: int


Collectable = Collect | Carry | Zero | Credit


def collectable(total: int, *, currency: str, minimum: int | None = None) -> Collectable:
    """What to do with an invoice's total. ``minimum``: the least amount to charge, in minor
    units; None: the currency's own; 0 for invoices that are paid outside of Stripe."""
    least = currency_of(currency).minimum_charge if minimum is None else minimum
    if total < 0:
        return Credit(-total)
    if total == 0:
        return Zero()
    return Collect(total) if total >= least else Carry(total)


def _minimum_line(missing: int, *, spent: int, currency: str, period: Period) -> LineDraft:
    minimum = format_money(Money(spent + missing, currency))
    return LineDraft(
        LineKind.MINIMUM,
        f"Up to the minimum of {minimum}",
        missing,
        period,
        detail={"minimum": spent + missing, "spent": spent},
    )


def _carried_line(part: CarriedAmount, *, period: Period) -> LineDraft:
    return LineDraft(
        LineKind.ADJUSTMENT,
        "Carried forward from an earlier invoice",
        part.amount,
        period,
        detail={"carried_from": part.invoice_id},
    )
