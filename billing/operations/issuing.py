"""Issuing: the lines of a draft are written for good, numbered, posted, and sent to be collected.

A draft is made when its period closes (drafting.py) and shows what was known then. It is issued
once the grace for late events is over: usage is rated anew, late events of earlier invoices become
adjustments, carried amounts and credit are taken in. From then on it never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, assert_never

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from accounts.operations.auditing import audit
from billing.domain import invoices as rules
from billing.domain import ledger
from billing.domain.invoices import CarriedAmount, LineKind
from billing.domain.ledger import Posting
from billing.domain.periods import Period
from billing.models import BilledUsage, Invoice, Subscription
from billing.operations.customer_credits import owe_credit, use_credit
from billing.operations.drafting import write_lines
from billing.operations.drawing import draw_wallet, wallet_covering
from billing.operations.locking import each_in_turn, lock_customer
from billing.operations.posting import post
from billing.queries.adjustments import Correction, adjustment_lines, corrections
from billing.queries.credits import credit_available
from billing.queries.ledger import issue_key
from billing.queries.parties import buyer, seller
from billing.queries.rated_periods import RatedUsage, rated_period
from billing.queries.spans import PeriodBasis, billed_spans

_NEXT_NUMBER: Final = """
INSERT INTO billing_invoicecounter AS counter (prefix, last_number) VALUES (%(prefix)s, 1)
    ON CONFLICT (prefix) DO UPDATE SET last_number = counter.last_number + 1
RETURNING last_number
"""
MANUAL_TERMS: Final = timedelta(days=30)


def issue_due(*, now: datetime, limit: int) -> int:
    """Issue up to `limit` drafts whose grace for late events (CLOSE_GRACE_S) is over.

    Of one subscription the older period goes first, so that adjustments always refer backwards.
    """
    over = now - timedelta(seconds=settings.CLOSE_GRACE_S)
    due = Invoice.objects.filter(status=Invoice.Status.DRAFT, period_end_at__lte=over)
    claims = due.order_by("period_end_at", "id").values_list("customer_id", "id")[:limit]
    return each_in_turn(list(claims), work=lambda found: _issue(found, now=now), what="issuing")


def issue(invoice_id: int, *, now: datetime) -> Invoice:
    """Issue a draft at once, with any older one of its subscription; an issued one stays so."""
    with transaction.atomic():
        invoice = Invoice.objects.get(pk=invoice_id)
        lock_customer(invoice.customer_id)
        older = _older_drafts(invoice).order_by("period_start_at").values_list("id", flat=True)
        for draft_id in [*older, invoice_id]:
            _issue(draft_id, now=now)
        invoice.refresh_from_db()
    return invoice


def next_number(prefix: str) -> str:
    """The next number of this row of numbers, without a gap: a caller that fails gives it back.

    Others who want one wait until the transaction ends, so it is taken as late as possible.
    """
    with connection.cursor() as cursor:
        cursor.execute(_NEXT_NUMBER, {"prefix": prefix})
        return f"{prefix}-{cursor.fetchone()[0]:06d}"


def _older_drafts(invoice: Invoice) -> QuerySet[Invoice]:
    assert invoice.subscription_id is not None
    return Invoice.objects.filter(
        subscription_id=invoice.subscription_id,
        status=Invoice.Status.DRAFT,
        period_start_at__lt=invoice.period_start_at,
    )


def _issue(invoice_id: int, *, now: datetime) -> bool:
    invoice = Invoice.objects.select_related("subscription", "customer").get(pk=invoice_id)
    if invoice.status != Invoice.Status.DRAFT or _older_drafts(invoice).exists():
        return False
    assert invoice.subscription is not None
    subscription = invoice.subscription
    period = Period(invoice.period_start_at, invoice.period_end_at)
    basis = PeriodBasis.from_json(invoice.basis)
    rated = rated_period(
        invoice.customer_id,
        spans=billed_spans(subscription.id, period=period, basis=basis),
        period=period,
        basis=basis,
    )
    late = corrections(invoice)
    carried = list(
        Invoice.objects.filter(
            customer_id=invoice.customer_id,
            currency=invoice.currency,
            status=Invoice.Status.OPEN,
            push=Invoice.Push.CARRIED,
            carried_to=None,
        ).order_by("period_start_at", "id")
    )
    draft = rules.assemble(
        currency=invoice.currency,
        period=period,
        fees=rated.draft.lines,
        adjustments=adjustment_lines(late),
        carried=[CarriedAmount(each.public_id, each.amount_due) for each in carried],
        credit_available=credit_available(
            invoice.customer_id, currency=invoice.currency, end_at=period.end_at
        ),
    )
    write_lines(invoice, draft=draft)
    _remember_usage(subscription, rated=rated.usage, late=late, basis=basis)
    _settle_and_number(invoice, subscription=subscription, now=now)
    Invoice.objects.filter(pk__in=[each.pk for each in carried]).update(carried_to=invoice)
    use_credit(invoice, amount=-draft.total_of(LineKind.CREDIT))
    if invoice.total < 0:
        owe_credit(
            invoice.customer_id,
            amount=-invoice.total,
            currency=invoice.currency,
            reason=f"Invoice {invoice.number}",
            now=now,
        )
    _post_issue(
        invoice,
        credit=-draft.total_of(LineKind.CREDIT),
        carried=sum(each.amount_due for each in carried),
        now=now,
    )
    audit(
        actor="system",
        action="invoice.issued",
        subject=invoice.public_id,
        customer_id=invoice.customer_id,
        changes={"number": invoice.number, "total": invoice.total, "push": invoice.push},
        now=now,
    )
    if invoice.amount_due and wallet_covering(invoice) is not None:
        draw_wallet(invoice.pk, actor="system", now=now)
    return True


def _remember_usage(
    subscription: Subscription,
    *,
    rated: Sequence[RatedUsage],
    late: Sequence[Correction],
    basis: PeriodBasis,
) -> None:
    for correction in late:
        correction.billed.quantity = correction.rated.used
        correction.billed.amount = correction.rated.amount
    BilledUsage.objects.bulk_update([each.billed for each in late], ["quantity", "amount"])
    BilledUsage.objects.bulk_create(
        BilledUsage(
            subscription=subscription,
            version=each.span.version,
            meter=each.meter,
            period_start_at=basis.whole.start_at,
            start_at=each.span.period.start_at,
            end_at=each.span.period.end_at,
            quantity=each.used,
            amount=each.amount,
        )
        for each in rated
    )


def _settle_and_number(invoice: Invoice, *, subscription: Subscription, now: datetime) -> None:
    manual = subscription.collection == Subscription.Collection.MANUAL
    invoice.status = Invoice.Status.OPEN
    invoice.issued_at = now
    invoice.due_at = now + MANUAL_TERMS if manual else now
    found = rules.collectable(
        invoice.total, currency=invoice.currency, minimum=0 if manual else None
    )
    match found:
        case rules.Collect() | rules.Carry() if wallet_covering(invoice) is not None:
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
    invoice.buyer = buyer(invoice.customer).to_json()
    invoice.number = next_number(settings.INVOICE_PREFIX)
    invoice.save()


def _post_issue(invoice: Invoice, *, credit: int, carried: int, now: datetime) -> None:
    """Post what is new on the invoice, and what of it credit settles.

    Carried amounts were posted by the invoices they come from; what is left on the customer's
    account afterwards is the invoice's total, or nothing where that is negative.
    """
    new = invoice.total - carried + credit
    applied = carried + max(new, 0) - max(invoice.total, 0)
    currency = invoice.currency
    postings: list[Posting] = []
    if new > 0:
        postings.append(ledger.invoice_issued(new, currency=currency))
    if new < 0:
        postings.append(ledger.credit_granted(-new, currency=currency))
    if applied:
        postings.append(ledger.credit_applied(applied, currency=currency))
    for posting in postings:
        post(
            posting,
            key=issue_key(posting.kind, invoice),
            customer_id=invoice.customer_id,
            invoice_id=invoice.id,
            occurred_at=now,
            now=now,
        )
