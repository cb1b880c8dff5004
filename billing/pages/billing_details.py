"""Who the customer's invoices are made out to, set by the customer."""

from __future__ import annotations

from typing import Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from billing.operations.billing_details import MOST, BillingDetailsInvalid, set_billing_details
from billing.pages.access import PortalView
from billing.queries.parties import billing_details

# What each is called, what browsers know it by, and what helps.
_FIELDS: Final = {
    "legal_name": ("Legal name", "organization", "Empty: the name of your account."),
    "line1": ("Address", "address-line1", ""),
    "line2": ("Address, second line", "address-line2", ""),
    "postal_code": ("Postal code", "postal-code", ""),
    "city": ("City", "address-level2", ""),
    "state": ("State or province", "address-level1", ""),
    "country": ("Country", "country", "Two capital letters, such as DE."),
    "tax_id": ("Tax id", "off", "As it stands on invoices, such as DE123456789."),
}


class BillingDetails(PortalView):
    """A form of plain fields."""

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002
        """Show what is known."""
        return self._page(billing_details(self.customer.id))

    def post(self, request: HttpRequest) -> HttpResponse:
        """Set all of it."""
        typed = {field: request.POST.get(field, "") for field in _FIELDS}
        typed["country"] = typed["country"].strip().upper()
        try:
            set_billing_details(self.customer.id, details=typed, actor=self.actor, now=self.now)
        except BillingDetailsInvalid as refused:
            page = self._page(typed, param=refused.param, refused=str(refused))
            page.status_code = 422
            return page
        messages.success(request, "Invoices from now on are made out to this.")
        return redirect("portal-billing-details")

    def _page(self, typed: dict[str, str], *, param: str = "", refused: str = "") -> HttpResponse:
        fields = [
            {
                "name": field,
                "label": label,
                "autocomplete": autocomplete,
                "words": words,
                "typed": typed[field],
                "most": MOST[field],
                "refused": refused if field == param else "",
            }
            for field, (label, autocomplete, words) in _FIELDS.items()
        ]
        return self.show("billing_details.html", fields=fields)
