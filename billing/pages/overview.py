"""The portal's first page, and the customer's invoices."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from billing.documents.facts import invoice_document
from billing.models import Invoice, StripeCustomer, Subscription, Wallet
from billing.operations.taxing import LOCATION_MISSING
from billing.pages import wording
from billing.pages.access import PortalView
from billing.pages.invoice_documents import invoice_of
from billing.queries.credits import credits_left
from billing.queries.invoices import invoice_preview, invoices, open_invoices
from billing.queries.subscriptions import current_subscription
from billing.queries.top_ups import auto_top_up_view
from metering.queries.balances import entitlements

INVOICES_SHOWN = 24


class Overview(PortalView):
    """Plan, balances, what stands in the way, the next invoice and those before."""

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002
        """Show it."""
        subscription = current_subscription(self.customer.id)
        rights = entitlements(self.customer.id, now=self.now)
        unpaid = open_invoices(self.customer.id).exclude(failure_code="").first()
        preview = invoice_preview(subscription) if subscription else None
        bills = invoices(customer_id=self.customer.id).filter(wallet=None)
        issued = bills.exclude(status=Invoice.Status.DRAFT)
        wallet = auto_top_up_view(self.customer, now=self.now)
        notice = wording.notice(rights, subscription=subscription, unpaid=unpaid, now=self.now)
        return self.show(
            "overview.html",
            subscription=subscription,
            state=wording.state(subscription.status) if subscription else None,
            fee=wording.fee(subscription.version) if subscription else "",
            notice=notice,
            before_tax=settings.STRIPE_TAX,
            awaits_address=open_invoices(self.customer.id)
            .filter(tax_status=LOCATION_MISSING, push=Invoice.Push.PENDING)
            .exists(),
            meters=wording.meters(rights),
            features=rights.features,
            next_total=wording.money(preview.total, preview.currency) if preview else "",
            next_lines=[_draft_line(line, preview.currency) for line in preview.lines]
            if preview
            else [],
            threshold=_threshold(subscription) if subscription else "",
            card=StripeCustomer.objects.filter(customer=self.customer, deleted_at=None).first(),
            wallets=_wallets(self.customer.id),
            top_ups_stopped=wording.suppression(wallet) if wallet.suppressed_at else "",
            credits=[
                {"left": wording.money(each.left, each.currency), "credit": each}
                for each in credits_left(self.customer.id)
            ],
            invoices=[_row(invoice) for invoice in issued[:INVOICES_SHOWN]],
        )


class OneInvoice(PortalView):
    """One invoice, line by line and tier by tier."""

    def get(self, request: HttpRequest, invoice: str) -> HttpResponse:  # noqa: ARG002
        """Show it; other customers' do not exist."""
        found = invoice_of(invoice, customer_id=self.customer.id)
        return self.show(
            "invoice.html", invoice=found, row=_row(found), document=invoice_document(found)
        )


def _row(invoice: Invoice) -> dict[str, Any]:
    due = invoice.amount_due
    carried = invoice.status == Invoice.Status.OPEN and invoice.push == Invoice.Push.CARRIED
    return {
        "invoice": invoice,
        "state": wording.Tag("Carried forward", "") if carried else wording.state(invoice.status),
        "total": wording.money(invoice.total_with_tax, invoice.currency),
        "paid": wording.money(invoice.amount_paid, invoice.currency),
        "due": wording.money(due, invoice.currency) if due and not carried else "",
    }


def _threshold(subscription: Subscription) -> str:
    amount = subscription.billing_threshold or subscription.version.billing_threshold
    return wording.money(amount, subscription.version.currency) if amount else ""


def _draft_line(line: Any, currency: str) -> dict[str, str]:
    return {"words": line.description, "amount": wording.money(line.amount, currency)}


def _wallets(customer_id: int) -> list[str]:
    found = Wallet.objects.filter(customer_id=customer_id, balance__gt=0).order_by("currency")
    return [wording.decimal_money(f"{each.balance:f}", each.currency) for each in found]
