"""An invoice as a page of its own, to be printed or kept."""

from __future__ import annotations

from django.template.loader import render_to_string

from billing.documents.facts import InvoiceDocument


def invoice_html(document: InvoiceDocument) -> str:
    """The page; it needs nothing but Farebox's one stylesheet."""
    return render_to_string("billing/invoice_page.html", {"document": document})
