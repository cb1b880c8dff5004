"""Invoices for people to read: as a PDF and as a page."""

from __future__ import annotations

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from accounts.api.streaming import AnyAnswer
from accounts.api.views import ManagementView
from billing.api.invoices import invoice_of
from billing.documents.facts import invoice_document
from billing.documents.html import invoice_html
from billing.documents.pdf import invoice_pdf


class _Document(ManagementView):
    scopes = {"GET": "invoices:read"}
    content_negotiation_class = AnyAnswer


class InvoicePdf(_Document):
    """One invoice as a PDF."""

    @extend_schema(
        summary="Download an invoice as a PDF",
        responses={(200, "application/pdf"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, invoice: str) -> HttpResponse:  # noqa: ARG002
        """Download an invoice as a PDF; what is unchanged has the same bytes every time."""
        self.query()
        found = invoice_of(invoice)
        response = HttpResponse(
            invoice_pdf(invoice_document(found)), content_type="application/pdf"
        )
        response["Content-Disposition"] = f'attachment; filename="{found}.pdf"'
        response["Cache-Control"] = "no-store"
        return response


class InvoicePage(_Document):
    """One invoice as a page."""

    @extend_schema(
        summary="See an invoice as a page", responses={(200, "text/html"): OpenApiTypes.STR}
    )
    def get(self, request: Request, invoice: str) -> HttpResponse:  # noqa: ARG002
        """See an invoice as a page of HTML, to be printed or kept."""
        self.query()
        response = HttpResponse(invoice_html(invoice_document(invoice_of(invoice))))
        response["Cache-Control"] = "no-store"
        return response
