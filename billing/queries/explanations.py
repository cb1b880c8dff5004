"""An invoice computed anew: each line from its details, usage from the events themselves."""

from __future__ import annotations

from dataclasses import dataclass

from billing.domain.explanations import LineFacts, recompute
from billing.domain.invoices import LineKind
from billing.domain.periods import Period
from billing.models import Invoice, InvoiceLine
from billing.queries.spans import PeriodBasis
from metering.queries.recounting import Recount, recounted


@dataclass(frozen=True, slots=True)
class ExplainedLine:
    """A line with its sums. `recomputed`: its amount in minor units, computed again; `used`: what
    it says was used; `counted`: what the events say today, None where they are gone.

    `differs`: the sums do not come to what the line says. `changed`: events came or were corrected
    since, which the next invoice puts right.
    """

    line: InvoiceLine
    sums: tuple[str, ...]
    recomputed: int | None
    used: int | None
    counted: Recount | None

    @property
    def differs(self) -> bool:
        """Whether the line is wrong by its own details."""
        return self.recomputed is not None and self.recomputed != self.line.amount

    @property
    def changed(self) -> bool:
        """Whether usage is another today."""
        return self.counted is not None and self.counted.quantity != self.used


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole invoice; `total` is the sum of its lines as they were read."""

    invoice: Invoice
    lines: tuple[ExplainedLine, ...]
    total: int

    @property
    def holds(self) -> bool:
        """Whether every line follows from its details, and the total from the lines."""
        return self.total == self.invoice.total and not any(line.differs for line in self.lines)


def explained(invoice: Invoice) -> Explanation:
    """Compute an invoice again. Reads every event of its usage lines; changes nothing."""
    period = Period(invoice.period_start_at, invoice.period_end_at)
    whole = PeriodBasis.from_json(invoice.basis).whole if invoice.basis else period
    rows = invoice.lines.select_related("meter").order_by("position")
    lines = tuple(_explained(row, invoice=invoice, whole=whole) for row in rows)
    return Explanation(invoice, lines, sum(each.line.amount for each in lines))


def _explained(line: InvoiceLine, *, invoice: Invoice, whole: Period) -> ExplainedLine:
    again = recompute(
        LineFacts(
            kind=LineKind(line.kind),
            amount=line.amount,
            quantity=line.quantity,
            period=Period(line.start_at, line.end_at),
            detail=line.detail,
            currency=invoice.currency,
            whole=whole,
        )
    )
    if line.kind != InvoiceLine.Kind.USAGE or line.meter_id is None:
        return ExplainedLine(line, again.sums, again.amount, None, None)
    counted = recounted(
        invoice.customer_id, meter_id=line.meter_id, start_at=line.start_at, end_at=line.end_at
    )
    return ExplainedLine(line, again.sums, again.amount, line.detail["used"], counted)
