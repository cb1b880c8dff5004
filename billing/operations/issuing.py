"""Issuing: the lines of a draft are written for good, numbered, posted, and sent to be collected.

A draft is made when its period closes (drafting.py) and shows what was known then. It is issued
once the grace for late events is over: usage is rated anew, late events of earlier invoices become
adjustments, carried amounts and credit are taken in. From then on it never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, assert_never

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet

from accounts.operations.auditing import Audited, audit_all
from billing.domain import invoices as rules
from billing.domain import ledger
from billing.domain.invoices import CarriedAmount, InvoiceDraft, LineKind
from billing.domain.ledger import Posting
from billing.domain.periods import Period
from billing.models import BilledUsage, Invoice, Subscription, Wallet
from billing.operations.customer_credits import owe_credit, use_credit
from billing.operations.drafting import write_lines
from billing.operations.drawing import draw_wallet, wallet_covering
from billing.operations.locking import in_batches, in_order, lock_customer
from billing.operations.posting import ToPost, post_all
from billing.operations.rewriting import insert, rewrite
from billing.queries.adjustments import Correction, adjustment_lines, corrections_of
from billing.queries.credits import credit_available
from billing.queries.invoices import carried_of
from billing.queries.ledger import issue_key
from billing.queries.parties import buyer, seller
from billing.queries.peers import Peers
from billing.queries.rated_periods import PeriodTerms, RatedUsage, rated_periods
from billing.queries.spans import PeriodBasis, billed_spans

_NEXT_NUMBER: Final = """
INSERT INTO billing_invoicecounter AS counter (prefix, last_number)
    VALUES (%(prefix)s, %(count)s)
    ON CONFLICT (prefix) DO UPDATE SET last_number = counter.last_number + %(count)s
RETURNING last_number
"""
MANUAL_TERMS: Final = timedelta(days=30)
_ISSUED: Final = (
    *("number", "status", "issued_at", "due_at", "paid_at", "push", "next_push_at"),
    *("seller", "buyer"),
)


def issue_due(*, now: datetime, limit: int) -> int:
    """Issue up to `limit` drafts whose grace for late events (CLOSE_GRACE_S) is over.

    Of one subscription the older period goes first, so that adjustments always refer backwards.
    """
    over = now - timedelta(seconds=settings.CLOSE_GRACE_S)
    due = Invoice.objects.filter(status=Invoice.Status.DRAFT, period_end_at__lte=over)

    def work(claims: list[tuple[int, int]]) -> int:
        # What a wallet pays is followed by the standing of its customer.
        paying = Wallet.objects.filter(customer_id__in=[each for each, _ in claims], balance__gt=0)
        return in_batches(
            claims,
            work=lambda found: _issue(found, now=now),
            what="issuing",
            alone=set(paying.values_list("customer_id", flat=True)),
        )

    return in_order(due, by="period_end_at", limit=limit, work=work)


def issue(invoice_id: int, *, now: datetime) -> Invoice:
    """Issue a draft at once, with any older one of its subscription; an issued one stays so."""
    with transaction.atomic():
        invoice = Invoice.objects.get(pk=invoice_id)
        lock_customer(invoice.customer_id)
        older = _older_drafts(invoice).order_by("period_start_at").values_list("id", flat=True)
        for draft_id in [*older, invoice_id]:
            _issue([draft_id], now=now)
        invoice.refresh_from_db()
    return invoice


def next_number(prefix: str) -> str:
    """The next of `next_numbers`."""
    return next_numbers(prefix, count=1)[0]


def next_numbers(prefix: str, *, count: int) -> list[str]:
    """The next numbers of this row of numbers, without a gap: a caller that fails gives them back.

    Others who want one wait until the transaction ends, so they are taken as late as possible.
    """
    with connection.cursor() as cursor:
        cursor.execute(_NEXT_NUMBER, {"prefix": prefix, "count": count})
        last = cursor.fetchone()[0]
    return [f"{prefix}-{number:06d}" for number in range(last - count + 1, last + 1)]


def _older_drafts(invoice: Invoice) -> QuerySet[Invoice]:
    assert invoice.subscription_id is not None
    return Invoice.objects.filter(
        subscription_id=invoice.subscription_id,
        status=Invoice.Status.DRAFT,
        period_start_at__lt=invoice.period_start_at,
    )


@dataclass(frozen=True, slots=True)
class _Bill:
    """An invoice that is being issued, and what it is made of."""

    invoice: Invoice
    terms: PeriodTerms
    usage: Sequence[RatedUsage]
    late: Sequence[Correction]
    carried: Sequence[Invoice]
    draft: InvoiceDraft

    @property
    def credit(self) -> int:
        """What of it credit settles, in minor units."""
        return -self.draft.total_of(LineKind.CREDIT)


def _issue(invoice_ids: Sequence[int], *, now: datetime) -> int:
    """Issue those of the drafts that have no older ones; of each customer one at most, and all are
    locked. Returns how many."""
    invoices = _ready(invoice_ids)
    if not invoices:
        return 0
    peers = Peers(each.customer_id for each in invoices)
    bills = _bills(invoices, peers=peers)
    write_lines([(each.invoice, each.draft) for each in bills])
    _remember_usage(bills)
    for each in invoices:
        _settle(each, peers=peers, now=now)
    numbers = next_numbers(settings.INVOICE_PREFIX, count=len(invoices))
    for each, number in zip(invoices, numbers, strict=True):
        each.number = number
    rewrite(invoices, fields=_ISSUED)
    for bill in bills:
        _use_up(bill, peers=peers, now=now)
    post_all([posting for each in bills for posting in _postings(each, now=now)], now=now)
    audit_all(
        [
            Audited(
                each.public_id,
                each.customer_id,
                {"number": each.number, "total": each.total, "push": each.push},
            )
            for each in invoices
        ],
        actor="system",
        action="invoice.issued",
        now=now,
    )
    for each in invoices:
        if each.amount_due and wallet_covering(each, peers=peers) is not None:
            draw_wallet(each.pk, actor="system", now=now)
    return len(invoices)


def _ready(invoice_ids: Sequence[int]) -> list[Invoice]:
    drafts = Invoice.objects.filter(pk__in=invoice_ids, status=Invoice.Status.DRAFT)
    older = Invoice.objects.filter(
        subscription=OuterRef("subscription"),
        status=Invoice.Status.DRAFT,
        period_start_at__lt=OuterRef("period_start_at"),
    )
    ready = drafts.exclude(Exists(older)).select_related("subscription", "customer")
    return list(ready.order_by("period_end_at", "id"))


def _bills(invoices: Sequence[Invoice], *, peers: Peers) -> list[_Bill]:
    """What each of them says, from what is known now."""
    terms = [_terms(each, peers=peers) for each in invoices]
    rated = rated_periods(terms, peers=peers)
    late = corrections_of(invoices, peers=peers)
    bills = []
    for invoice, asked, usage, found in zip(invoices, terms, rated, late, strict=True):
        customer_id, currency = invoice.customer_id, invoice.currency
        carried = peers.ask(carried_of, (customer_id, currency)) or []
        draft = rules.assemble(
            currency=currency,
            period=asked.period,
            fees=usage.draft.lines,
            adjustments=adjustment_lines(found, peers=peers),
            carried=[CarriedAmount(each.public_id, each.amount_due) for each in carried],
            credit_available=credit_available(
                customer_id, currency=currency, end_at=invoice.period_end_at, peers=peers
            ),
        )
        bills.append(_Bill(invoice, asked, usage.usage, found, carried, draft))
    return bills


def _terms(invoice: Invoice, *, peers: Peers) -> PeriodTerms:
    assert invoice.subscription_id is not None
    period = Period(invoice.period_start_at, invoice.period_end_at)
    basis = PeriodBasis.from_json(invoice.basis)
    found = billed_spans(invoice.subscription_id, period=period, basis=basis, peers=peers)
    return PeriodTerms(invoice.customer_id, found, basis, period)


def _remember_usage(bills: Sequence[_Bill]) -> None:
    late = [each for bill in bills for each in bill.late]
    for correction in late:
        correction.billed.quantity = correction.rated.used
        correction.billed.amount = correction.rated.amount
    rewrite([each.billed for each in late], fields=["quantity", "amount"])
    insert(
        BilledUsage,
        [
            {
                "subscription_id": bill.invoice.subscription_id,
                "version_id": each.span.version.pk,
                "meter_id": each.meter.pk,
                "period_start_at": bill.terms.basis.whole.start_at,
                "start_at": each.span.period.start_at,
                "end_at": each.span.period.end_at,
                "quantity": each.used,
                "amount": each.amount,
            }
            for bill in bills
            for each in bill.usage
        ],
    )


def _settle(invoice: Invoice, *, peers: Peers, now: datetime) -> None:
    """Say who bills whom, and whether and how it is to be paid."""
    assert invoice.subscription is not None
    manual = invoice.subscription.collection == Subscription.Collection.MANUAL
    invoice.status = Invoice.Status.OPEN
    invoice.issued_at = now
    invoice.due_at = now + MANUAL_TERMS if manual else now
    found = rules.collectable(
        invoice.total, currency=invoice.currency, minimum=0 if manual else None
    )
    match found:
        case rules.Collect() | rules.Carry() if wallet_covering(invoice, peers=peers) is not None:
            invoice.push = Invoice.Push.NONE  # and drawn as soon as it is posted
        case rules.Collect() if manual:
            invoice.push = Invoice.Push.NONE
        case rules.Collect():
            invoice.push = Invoice.Push.PENDING
            invoice.next_push_at = now
        case rules.Carry():
            invoice.push = Invoice.Push.CARRIED
        case rules.Zero() | rules.Credit():
            invoice.status = Invoice.Status.PAID
            invoice.paid_at = now
        case _:
            assert_never(found)
    invoice.seller = seller().to_json()
    invoice.buyer = buyer(invoice.customer, peers=peers).to_json()


def _use_up(bill: _Bill, *, peers: Peers, now: datetime) -> None:
    """What was carried to the invoice and the credit on it are used up; owe what is below zero."""
    invoice = bill.invoice
    if bill.carried:
        rows = Invoice.objects.filter(pk__in=[each.pk for each in bill.carried])
        rows.update(carried_to=invoice)
    if bill.credit:
        use_credit(invoice, amount=bill.credit, peers=peers)
    if invoice.total < 0:
        owe_credit(
            invoice.customer_id,
            amount=-invoice.total,
            currency=invoice.currency,
            reason=f"Invoice {invoice.number}",
            now=now,
        )


def _postings(bill: _Bill, *, now: datetime) -> list[ToPost]:
    """What is new on the invoice, and what of it credit settles.

    Carried amounts were posted by the invoices they come from; what is left on the customer's
    account afterwards is the invoice's total, or nothing where that is negative.
    """
    invoice, carried = bill.invoice, sum(each.amount_due for each in bill.carried)
    new = invoice.total - carried + bill.credit
    applied = carried + max(new, 0) - max(invoice.total, 0)
    currency = invoice.currency
    postings: list[Posting] = []
    if new > 0:
        postings.append(ledger.invoice_issued(new, currency=currency))
    if new < 0:
        postings.append(ledger.credit_granted(-new, currency=currency))
    if applied:
        postings.append(ledger.credit_applied(applied, currency=currency))
    return [
        ToPost(each, issue_key(each.kind, invoice), invoice.customer_id, now, invoice.pk)
        for each in postings
    ]
