"""Drafts: the one invoice of a period, before it is issued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from accounts.domain.ids import decode
from accounts.models import new_entity_id
from billing.domain.invoices import InvoiceDraft, LineDraft
from billing.models import Invoice, InvoiceLine, PlanVersion, Subscription
from billing.operations.rewriting import insert, rewrite
from billing.queries.peers import Peers
from billing.queries.rated_periods import PeriodTerms, rated_periods
from billing.queries.spans import billed_spans, current_basis, unbilled_period
from metering.models import Meter

_SAID: Final = (
    *("position", "kind", "description", "meter_id", "version_id"),
    *("quantity", "amount", "start_at", "end_at", "detail"),
)


def draft_period(
    subscription: Subscription, *, end_at: datetime, interim: bool = False, now: datetime
) -> Invoice:
    """`draft_periods` of one."""
    return draft_periods([(subscription, end_at)], interim=interim, now=now)[0]


def draft_periods(
    ended: Sequence[tuple[Subscription, datetime]], *, interim: bool = False, now: datetime
) -> list[Invoice]:
    """Make the drafts of the current periods, each of which ends at its time; of each customer one
    at most, and all are locked.

    `interim`: of their usage up to there, while they go on. The drafts that are there already are
    returned as they are.
    """
    peers = Peers(each.customer_id for each, _ in ended)
    asked = [_asked(each, end_at=end_at, interim=interim, peers=peers) for each, end_at in ended]
    starts = {each.pk: of.period.start_at for (each, _), of in zip(ended, asked, strict=True)}
    found = Invoice.objects.filter(
        subscription_id__in=starts, period_start_at__in=set(starts.values())
    ).exclude(status=Invoice.Status.VOID)
    there = {
        each.subscription_id: each
        for each in found
        if each.subscription_id and starts[each.subscription_id] == each.period_start_at
    }
    new = [
        (subscription, terms)
        for (subscription, _), terms in zip(ended, asked, strict=True)
        if subscription.pk not in there
    ]
    rated = rated_periods([terms for _, terms in new], peers=peers)
    ids = sorted(new_entity_id() for _ in new)  # which say in which order they were made
    made = {
        subscription.pk: Invoice(
            id=invoice_id,
            customer_id=terms.customer_id,
            subscription=subscription,
            currency=subscription.version.currency,
            period_start_at=terms.period.start_at,
            period_end_at=terms.period.end_at,
            basis=terms.basis.to_json(),
            total=each.draft.total,
            created_at=now,
        )
        for (subscription, terms), each, invoice_id in zip(new, rated, ids, strict=True)
    }
    Invoice.objects.bulk_create(made.values())
    write_lines(list(zip(made.values(), (each.draft for each in rated), strict=True)))
    return [there.get(each.pk) or made[each.pk] for each, _ in ended]


def _asked(
    subscription: Subscription, *, end_at: datetime, interim: bool, peers: Peers
) -> PeriodTerms:
    basis = replace(current_basis(subscription), interim=interim)
    period = unbilled_period(subscription, end_at=end_at)
    found = billed_spans(subscription.pk, period=period, basis=basis, peers=peers)
    return PeriodTerms(subscription.customer_id, found, basis, period)


def write_lines(drafts: Sequence[tuple[Invoice, InvoiceDraft]]) -> None:
    """Bring the lines of invoices that are not issued yet in line with their drafts, and their
    totals. Lines that say the same already are left."""
    keys = {line.meter for _, draft in drafts for line in draft.lines if line.meter is not None}
    meters = dict(Meter.objects.filter(key__in=keys).values_list("key", "id"))
    wanted = {invoice.pk: _rows(draft, meters=meters) for invoice, draft in drafts}
    there: dict[int, list[dict[str, Any]]] = {}
    rows = InvoiceLine.objects.filter(invoice_id__in=wanted)
    for row in rows.order_by("position").values("invoice_id", *_SAID):
        there.setdefault(row.pop("invoice_id"), []).append(row)
    changed = [each for each, lines in wanted.items() if lines != there.get(each, [])]
    InvoiceLine.objects.filter(invoice_id__in=changed).delete()
    lines = [(each, row) for each in changed for row in wanted[each]]
    insert(
        InvoiceLine,
        [
            {"id": new_entity_id(), "invoice_id": invoice_id, "stripe_line": "", **row}
            for invoice_id, row in lines
        ],
    )
    totals = [(invoice, draft.total) for invoice, draft in drafts if invoice.total != draft.total]
    for invoice, total in totals:
        invoice.total = total
    rewrite([invoice for invoice, _ in totals], fields=["total"])


def _rows(draft: InvoiceDraft, *, meters: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {
            "position": position,
            "kind": line.kind,
            "description": line.description[:500],
            "meter_id": meters[line.meter] if line.meter else None,
            "version_id": _version_id(line),
            "quantity": line.quantity,
            "amount": line.amount,
            "start_at": line.period.start_at,
            "end_at": line.period.end_at,
            "detail": dict(line.detail),
        }
        for position, line in enumerate(draft.lines, start=1)
    ]


def _version_id(line: LineDraft) -> int | None:
    named = line.detail.get("version")
    return None if named is None else _decoded(str(named))


@lru_cache(maxsize=1_024)
def _decoded(version: str) -> int:
    return decode(PlanVersion.PREFIX, version)
