"""Every invoice, payment, refund and dispute of a span, held against Stripe's; only looks there.

Both sides are listed by their own times, which differ at the edges of a span: what one list lacks
is looked for by its id before it is called missing.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from django.db.models import Q, QuerySet, Sum

from accounts.domain.ids import IdMalformed, decode
from billing.domain import ledger
from billing.domain.ledger import PostingKind
from billing.domain.reconciliation import Compared, Difference, Kept, differences
from billing.models import Dispute, Invoice, LedgerEntry, LedgerPosting, Reconciliation
from billing.operations import refunding
from billing.payments import client, money_back

Json = dict[str, Any]
log = structlog.get_logger(__name__)

# What was issued sooner than this may still be on its way to Stripe.
UNDER_WAY: Final = timedelta(hours=1)
KEPT_DIFFERENCES: Final = 1_000
_RECEIVED: Final = (PostingKind.PAYMENT_RECEIVED, PostingKind.WALLET_TOP_UP)
_COLLECTED: Final = (Invoice.Push.PUSHED, Invoice.Push.PENDING, Invoice.Push.QUARANTINED)


@dataclass(slots=True)
class Comparison:
    """What differs between here and there, and how many of each kind were compared."""

    start_at: datetime
    end_at: datetime
    counts: dict[str, int] = field(default_factory=dict)
    found: list[Difference] = field(default_factory=list)

    def add(self, kind: Compared, ours: dict[str, Kept], theirs: dict[str, Kept]) -> None:
        """Compare one kind."""
        self.counts[kind] = len(ours.keys() | theirs.keys())
        self.found += differences(kind, ours, theirs)


def compare(start_at: datetime, end_at: datetime, *, now: datetime) -> Comparison:
    """Compare what was issued, paid, refunded or disputed in [start_at, end_at).

    Changes nothing, here or there. Raises StripeNotConfigured, StripeUnreachable, StripeRefused,
    StripeStopped; then nothing is known.
    """
    client.api_key()
    comparison = Comparison(start_at, end_at)
    comparison.add(Compared.INVOICE, *_invoices(start_at, end_at, now=now))
    comparison.add(Compared.PAYMENT, *_payments(start_at, end_at))
    comparison.add(Compared.REFUND, *_refunds(start_at, end_at))
    comparison.add(Compared.DISPUTE, *_disputes(start_at, end_at))
    return comparison


def reconcile(start_at: datetime, end_at: datetime, *, now: datetime) -> Reconciliation:
    """Compare, keep what was found, log where it differs. Raises as `compare`."""
    comparison = compare(start_at, end_at, now=now)
    if comparison.found:
        log.error("stripe_differs", differences=len(comparison.found), start_at=str(start_at))
    return keep(comparison, now=now)


def keep(comparison: Comparison, *, now: datetime) -> Reconciliation:
    """Keep what was found for operators to see in the admin."""
    return Reconciliation.objects.create(
        start_at=comparison.start_at,
        end_at=comparison.end_at,
        made_at=now,
        counts=comparison.counts,
        differences=[asdict(each) for each in comparison.found[:KEPT_DIFFERENCES]],
        differing=len(comparison.found),
    )


def reconcile_lately(*, now: datetime) -> None:
    """Compare the last three days, but for what may be under way; nothing without a Stripe."""
    if client.configured():
        reconcile(now - timedelta(days=3), now - UNDER_WAY, now=now)


# --- Invoices ----------------------------------------------------------------------------------


def _invoices(
    start_at: datetime, end_at: datetime, *, now: datetime
) -> tuple[dict[str, Kept], dict[str, Kept]]:
    theirs = {
        found["id"]: _their_invoice(found)
        for found in _listed("/v1/invoices", start_at, end_at)
        if found["status"] != "draft" and _farebox_id(found)
    }
    issued = Invoice.objects.filter(
        push__in=_COLLECTED, issued_at__gte=start_at, issued_at__lt=end_at, total__gt=0
    ).exclude(push=Invoice.Push.PENDING, issued_at__gt=now - UNDER_WAY)
    ours = {
        invoice.stripe_invoice or invoice.public_id: _our_invoice(invoice) for invoice in issued
    }
    for key in theirs.keys() - ours.keys():
        if (invoice := _invoice_of(key, theirs[key].subject)) is not None:
            # Ours may not know Stripe's id yet: a webhook or the next push tells it.
            ours.pop(invoice.public_id, None)
            ours[key] = _our_invoice(invoice)
    for key in ours.keys() - theirs.keys():
        if key.startswith("in_") and (there := _read(f"/v1/invoices/{key}")) is not None:
            theirs[key] = _their_invoice(there)
    return ours, theirs


def _invoice_of(stripe_invoice: str, public_id: str) -> Invoice | None:
    """Ours for Stripe's; None where it is not here, or is another one at Stripe."""
    known = Q(stripe_invoice=stripe_invoice)
    with contextlib.suppress(IdMalformed):
        known |= Q(pk=decode(Invoice.PREFIX, public_id), stripe_invoice=None)
    return Invoice.objects.filter(known).first()


def _our_invoice(invoice: Invoice) -> Kept:
    status = str(invoice.status)
    if invoice.stripe_invoice is None:
        status += f", {invoice.push}"
    return Kept(invoice.total_with_tax, invoice.currency, status, invoice.public_id)


def _their_invoice(found: Json) -> Kept:
    return Kept(found["total"], found["currency"], found["status"], _farebox_id(found))


def _farebox_id(found: Json) -> str:
    return str((found.get("metadata") or {}).get("farebox_invoice") or "")


# --- Payments ----------------------------------------------------------------------------------


def _payments(start_at: datetime, end_at: datetime) -> tuple[dict[str, Kept], dict[str, Kept]]:
    """By Stripe's invoice: all that came in for each that had a payment in the span."""
    told: defaultdict[str, int] = defaultdict(int)
    for found in _listed("/v1/invoice_payments", start_at, end_at, status="paid"):
        told[found["invoice"]] += found["amount_paid"] or 0
    received = LedgerPosting.objects.filter(
        kind__in=_RECEIVED,
        occurred_at__gte=start_at,
        occurred_at__lt=end_at,
        invoice__push__in=_COLLECTED,
        invoice__stripe_invoice__isnull=False,
    )
    keys = told.keys() | set(received.values_list("invoice__stripe_invoice", flat=True))
    ours, theirs = {}, {}
    for invoice in Invoice.objects.filter(stripe_invoice__in=keys):
        key = str(invoice.stripe_invoice)
        here = _received(invoice)
        there = told.get(key, 0)
        if here != there:  # a part may lie outside the span, or was paid outside of Stripe
            there = (_read(f"/v1/invoices/{key}") or {}).get("amount_paid") or 0
        ours[key] = Kept(here, invoice.currency, subject=invoice.public_id)
        theirs[key] = Kept(there, invoice.currency, subject=invoice.public_id)
    return ours, theirs


def _received(invoice: Invoice) -> int:
    entries = LedgerEntry.objects.filter(
        posting__invoice=invoice,
        posting__kind__in=_RECEIVED,
        account=ledger.Account.CASH,
    )
    return entries.aggregate(total=Sum("amount"))["total"] or 0


# --- Refunds and disputes ------------------------------------------------------------------------


def _refunds(start_at: datetime, end_at: datetime) -> tuple[dict[str, Kept], dict[str, Kept]]:
    theirs = {}
    for found in _listed("/v1/refunds", start_at, end_at):
        invoice = money_back.paid_invoice(found.get("payment_intent"))
        if invoice is not None and found["status"] in refunding.GIVEN:
            theirs[found["id"]] = _their_refund(found, subject=invoice.public_id)
    given = LedgerPosting.objects.filter(kind=PostingKind.REFUND_GIVEN)
    of_span = given.filter(occurred_at__gte=start_at, occurred_at__lt=end_at)
    ours = _our_refunds(of_span | given.filter(note__in=theirs.keys()))
    for key in ours.keys() - theirs.keys():
        if (there := _read(f"/v1/refunds/{key}")) is not None:
            theirs[key] = _their_refund(there, subject=ours[key].subject)
    return ours, theirs


def _our_refunds(given: QuerySet[LedgerPosting]) -> dict[str, Kept]:
    failed = LedgerPosting.objects.filter(kind=PostingKind.REFUND_FAILED)
    back = set(failed.filter(note__in=given.values("note")).values_list("note", flat=True))
    entries = LedgerEntry.objects.filter(posting__in=given, account=ledger.Account.CASH)
    return {
        entry.posting.note: Kept(
            -entry.amount,
            entry.currency,
            "failed" if entry.posting.note in back else "given",
            entry.posting.invoice.public_id if entry.posting.invoice else "",
        )
        for entry in entries.select_related("posting__invoice")
    }


def _their_refund(found: Json, *, subject: str) -> Kept:
    status = "failed" if found["status"] in refunding.FAILED else "given"
    return Kept(found["amount"], found["currency"], status, subject)


def _disputes(start_at: datetime, end_at: datetime) -> tuple[dict[str, Kept], dict[str, Kept]]:
    theirs = {}
    for found in _listed("/v1/disputes", start_at, end_at):
        invoice = money_back.paid_invoice(found.get("payment_intent"))
        if invoice is not None:
            theirs[found["id"]] = _their_dispute(found, subject=invoice.public_id)
    in_span = Q(opened_at__gte=start_at, opened_at__lt=end_at) | Q(reference__in=theirs.keys())
    rows = Dispute.objects.filter(in_span, kind=Dispute.Kind.DISPUTE).select_related("invoice")
    ours = {
        row.reference: Kept(row.amount, row.currency, row.status, row.invoice.public_id)
        for row in rows
    }
    for key in ours.keys() - theirs.keys():
        if (there := _read(f"/v1/disputes/{key}")) is not None:
            theirs[key] = _their_dispute(there, subject=ours[key].subject)
    return ours, theirs


def _their_dispute(found: Json, *, subject: str) -> Kept:
    return Kept(found["amount"], found["currency"], found["status"], subject)


# --- Reading -----------------------------------------------------------------------------------


def _listed(path: str, start_at: datetime, end_at: datetime, **filters: object) -> Iterator[Json]:
    created = {"gte": _seconds(start_at), "lt": _seconds(end_at)}
    return client.read_all(path, created=created, **filters)


def _read(path: str) -> Json | None:
    try:
        return client.read(path)
    except client.StripeRefused as refused:
        if refused.status == 404:
            return None
        raise


def _seconds(at: datetime) -> int:
    """A whole second not before `at`, as Stripe's times are."""
    return -(-int(at.astimezone(UTC).timestamp() * 1_000) // 1_000)
