"""The portal's first page, and the customer's invoices."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse

from accounts.domain.ids import IdMalformed, decode
from billing.models import Invoice, InvoiceLine, StripeCustomer, Wallet
from billing.pages import wording
from billing.pages.access import PortalView
from billing.queries.invoices import invoice_preview, invoices, open_invoices
from billing.queries.subscriptions import current_subscription
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
        issued = invoices(customer_id=self.customer.id).exclude(status=Invoice.Status.DRAFT)
        notice = wording.notice(rights, subscription=subscription, unpaid=unpaid, now=self.now)
        return self.show(
            "overview.html",
            subscription=subscription,
            state=wording.state(subscription.status) if subscription else None,
            fee=wording.fee(subscription.version) if subscription else "",
            notice=notice,
            meters=wording.meters(rights),
            features=rights.features,
            next_total=wording.money(preview.total, preview.currency) if preview else "",
            next_lines=[_draft_line(line, preview.currency) for line in preview.lines]
            if preview
            else [],
            card=StripeCustomer.objects.filter(customer=self.customer, deleted_at=None).first(),
            wallets=_wallets(self.customer.id),
            invoices=[_row(invoice) for invoice in issued[:INVOICES_SHOWN]],
        )


class OneInvoice(PortalView):
    """One invoice, line by line and tier by tier."""

    def get(self, request: HttpRequest, invoice: str) -> HttpResponse:  # noqa: ARG002
        """Show it; other customers' do not exist."""
        try:
            number = decode(Invoice.PREFIX, invoice)
        except IdMalformed as error:
            raise Http404("There is no such invoice.") from error
        issued = invoices(customer_id=self.customer.id).exclude(status=Invoice.Status.DRAFT)
        found = issued.filter(pk=number).first()
        if found is None:
            raise Http404("There is no such invoice.")
        lines = sorted(found.lines.all(), key=lambda line: line.position)
        return self.show(
            "invoice.html",
            invoice=found,
            row=_row(found),
            lines=[_line(line, found.currency) for line in lines],
            attempts=found.attempts.order_by("-at", "-id"),
            credit_notes=[
                {"note": note, "amount": wording.money(note.amount, found.currency)}
                for note in found.credit_notes.order_by("id")
            ],
        )


def _row(invoice: Invoice) -> dict[str, Any]:
    due = invoice.amount_due
    carried = invoice.status == Invoice.Status.OPEN and invoice.push == Invoice.Push.CARRIED
    return {
        "invoice": invoice,
        "state": wording.Tag("Carried forward", "") if carried else wording.state(invoice.status),
        "total": wording.money(invoice.total, invoice.currency),
        "paid": wording.money(invoice.amount_paid, invoice.currency),
        "due": wording.money(due, invoice.currency) if due and not carried else "",
    }


def _line(line: InvoiceLine, currency: str) -> dict[str, Any]:
    tiers = [_tier(tier, currency) for tier in line.detail.get("tiers", [])]
    before = [_tier(tier, currency) for tier in line.detail.get("tiers_before", [])]
    return {
        "line": line,
        "amount": wording.money(line.amount, currency),
        "used": line.detail.get("used"),
        "included": line.detail.get("included"),
        "granted": line.detail.get("granted"),
        "tiers": tiers,
        "before": before,
        "exact": wording.decimal_money(line.detail["amount"], currency)
        if line.kind == InvoiceLine.Kind.USAGE and "amount" in line.detail
        else "",
    }


def _tier(tier: dict[str, Any], currency: str) -> dict[str, Any]:
    return {
        "first": tier["from_quantity"] + 1,
        "last": tier["to_quantity"],
        "quantity": tier["quantity"],
        "packages": tier.get("packages"),
        "unit_price": wording.decimal_money(tier["unit_price"], currency),
        "flat_price": wording.decimal_money(tier["flat_price"], currency)
        if tier["flat_price"] != "0"
        else "",
        "amount": wording.decimal_money(tier["amount"], currency),
    }


def _draft_line(line: Any, currency: str) -> dict[str, str]:
    return {"words": line.description, "amount": wording.money(line.amount, currency)}


def _wallets(customer_id: int) -> list[str]:
    found = Wallet.objects.filter(customer_id=customer_id, balance__gt=0).order_by("currency")
    return [wording.decimal_money(f"{each.balance:f}", each.currency) for each in found]
