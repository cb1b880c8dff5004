"""Invoices to print and to keep, for their customer and for operators."""

from __future__ import annotations

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse

from accounts.domain.ids import IdMalformed, decode
from billing.documents.facts import invoice_document
from billing.documents.html import invoice_html
from billing.documents.pdf import invoice_pdf
from billing.models import Invoice
from billing.pages.access import PortalView
from billing.queries.invoices import invoices


def invoice_of(public_id: str, *, customer_id: int | None = None) -> Invoice:
    """An invoice of anybody's, or an issued one of this customer's; raises Http404."""
    try:
        number = decode(Invoice.PREFIX, public_id)
    except IdMalformed as error:
        raise Http404("There is no such invoice.") from error
    found = invoices(customer_id=customer_id)
    if customer_id is not None:
        found = found.exclude(status=Invoice.Status.DRAFT)
    invoice = found.filter(pk=number).first()
    if invoice is None:
        raise Http404("There is no such invoice.")
    return invoice


class InvoicePage(PortalView):
    """One of the customer's invoices as a page of its own."""

    def get(self, request: HttpRequest, invoice: str) -> HttpResponse:  # noqa: ARG002
        """Show it; other customers' do not exist."""
        return _page(invoice_of(invoice, customer_id=self.customer.id))


class InvoicePdf(PortalView):
    """One of the customer's invoices as a PDF."""

    def get(self, request: HttpRequest, invoice: str) -> HttpResponse:  # noqa: ARG002
        """Hand it over; other customers' do not exist."""
        return _pdf(invoice_of(invoice, customer_id=self.customer.id))


@admin.site.admin_view
def operator_invoice(request: HttpRequest, invoice: str) -> HttpResponse:
    """Show an operator an invoice as its customer sees it; drafts too."""
    _check(request)
    return _page(invoice_of(invoice))


@admin.site.admin_view
def operator_invoice_pdf(request: HttpRequest, invoice: str) -> HttpResponse:
    """Hand an operator an invoice's PDF."""
    _check(request)
    return _pdf(invoice_of(invoice))


def _check(request: HttpRequest) -> None:
    if not request.user.has_perm("billing.view_invoice"):
        raise PermissionDenied


def _page(invoice: Invoice) -> HttpResponse:
    return HttpResponse(invoice_html(invoice_document(invoice)))


def _pdf(invoice: Invoice) -> HttpResponse:
    content = invoice_pdf(invoice_document(invoice))
    response = HttpResponse(content, content_type="application/pdf")
    response["Content-Disposition"] = f'attachment; filename="{invoice}.pdf"'
    return response
