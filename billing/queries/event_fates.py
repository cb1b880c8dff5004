"""The whole fate of a usage event: from its meters to the invoice lines that charge it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from accounts.domain import ids
from accounts.models import Customer
from billing.models import Invoice, InvoiceLine
from metering.models import Meter, QuarantinedEvent, UsageEvent
from metering.queries.events import EventFate, event_fate
from metering.queries.quarantine import in_quarantine, quarantined_of


@dataclass(frozen=True, slots=True)
class BilledFate:
    """The line that holds a meter's usage of an event's span; `line` None with `stopped` = why.

    `adjusted`: the line that put it right after the event was corrected. Where that is still to
    come, `stopped` says so beside the line.
    """

    line: InvoiceLine | None
    stopped: str = ""
    adjusted: InvoiceLine | None = None


@dataclass(frozen=True, slots=True)
class WholeFate:
    """An event's fate to the end. `billed`: by meter id, of `former` meters as well.

    `former`: meters on which it counted before it was corrected, and no longer does.
    """

    metered: EventFate
    billed: dict[int, BilledFate]
    former: list[Meter]


@dataclass(frozen=True, slots=True)
class RefusedFate:
    """An event that was refused and kept, and whose it is, as far as that is known."""

    row: QuarantinedEvent
    customer: Customer | None


def event_by_id(public_id: str, *, caller: int | None = None) -> WholeFate | RefusedFate | None:
    """The event of an id, counted (`evt_…`) or in quarantine (`evt_…`, `qua_…`).

    None where there is none, or none of the customer `caller`. Raises IdMalformed.
    """
    if public_id.startswith(f"{QuarantinedEvent.PREFIX}_"):
        found = in_quarantine(ids.decode(QuarantinedEvent.PREFIX, public_id))
        if found is None:
            return None
        row, customer = found
        own = caller is None or (customer is not None and customer.id == caller)
        return RefusedFate(row, customer) if own else None
    customer_id, key = ids.decode_owned(UsageEvent.PREFIX, public_id)
    if caller not in {None, customer_id}:
        return None
    fate = whole_fate(customer_id, event_id=key)
    if fate is not None:
        return fate
    owner = Customer.objects.filter(id=customer_id).first()
    refused = None if owner is None else quarantined_of(owner).filter(event_id=key).first()
    return None if refused is None else RefusedFate(refused, owner)


def whole_fate(customer_id: int, *, event_id: UUID) -> WholeFate | None:
    """All that became of an event of the customer; None where there is no such event."""
    fate = event_fate(customer_id, event_id=event_id)
    if fate is None:
        return None
    present = {each.meter.id for each in fate.meters}
    usages = [fate.event.usage, *(each.usage for each in fate.corrections)]
    former = {int(number) for usage in usages for number in usage} - present
    corrected_at = fate.corrections[-1].at if fate.corrections else None
    billed = {
        meter_id: billed_fate(
            customer_id,
            meter_id=meter_id,
            occurred_at=fate.event.occurred_at,
            received_at=fate.event.received_at,
            corrected_at=corrected_at,
        )
        for meter_id in present | former
    }
    return WholeFate(fate, billed, list(Meter.objects.filter(id__in=former).order_by("key")))


def billed_fate(
    customer_id: int,
    *,
    meter_id: int,
    occurred_at: datetime,
    received_at: datetime,
    corrected_at: datetime | None = None,
) -> BilledFate:
    """Where usage of a meter at `occurred_at` was billed.

    An event that came after its period's invoice had been issued is looked for among later
    adjustments of that span, and so is what a correction at `corrected_at` changed.
    """
    held = Q(invoice__customer_id=customer_id, meter_id=meter_id)
    spans = InvoiceLine.objects.filter(
        held, start_at__lte=occurred_at, end_at__gt=occurred_at
    ).exclude(invoice__status=Invoice.Status.VOID)
    lines = list(spans.select_related("invoice").order_by("invoice__issued_at", "id"))
    line = _after(lines, received_at)
    if line is not None:
        return _adjusted(line, lines, corrected_at)
    if lines:
        return BilledFate(None, "It came after its invoice; the next one will adjust it.")
    return BilledFate(None, _why_not(customer_id, occurred_at=occurred_at))


def _after(lines: list[InvoiceLine], moment: datetime) -> InvoiceLine | None:
    """The first of these lines whose invoice was not issued at that time."""
    for line in lines:
        issued_at = line.invoice.issued_at
        if issued_at is None or moment < issued_at:
            return line
    return None


def _adjusted(
    line: InvoiceLine, lines: list[InvoiceLine], corrected_at: datetime | None
) -> BilledFate:
    issued_at = line.invoice.issued_at
    if corrected_at is None or issued_at is None or corrected_at < issued_at:
        return BilledFate(line)
    adjusted = _after(lines, corrected_at)
    if adjusted is None:
        return BilledFate(
            line, "It was corrected after that invoice; the next one adjusts what that changes."
        )
    return BilledFate(line, adjusted=adjusted)


def _why_not(customer_id: int, *, occurred_at: datetime) -> str:
    invoice = Invoice.objects.filter(
        customer_id=customer_id, period_start_at__lte=occurred_at, period_end_at__gt=occurred_at
    ).first()
    if invoice is None:
        return "Its period is not invoiced yet."
    return "The plan does not bill this meter."
