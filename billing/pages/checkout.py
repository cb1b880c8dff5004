"""The payment method, and coming back from Stripe Checkout."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from accounts.domain.ids import IdMalformed, decode
from billing.models import CheckoutSession, StripeCustomer
from billing.operations.checkout import begin_checkout
from billing.pages.access import PortalView
from billing.payments.checkout import (
    CheckoutClosed,
    StripePageUnavailable,
    open_checkout,
    open_portal,
)
from billing.payments.returning import complete_from_return, return_address

PAYMENT_METHOD = "/portal/payment-method"


class PaymentMethod(PortalView):
    """What the customer is charged on, and the two pages of Stripe where that changes."""

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002
        """Show it."""
        card = StripeCustomer.objects.filter(customer=self.customer, deleted_at=None).first()
        return self.show("payment_method.html", card=card)

    def post(self, request: HttpRequest) -> HttpResponse:
        """Lead to Checkout, or with `where=portal` to Stripe's own portal."""
        try:
            if request.POST.get("where") == "portal":
                return redirect(
                    open_portal(
                        self.customer, return_url=settings.BASE_URL + PAYMENT_METHOD, now=self.now
                    )
                )
            visit = begin_checkout(self.customer.id, actor=self.actor, now=self.now)
            return redirect(
                open_checkout(
                    visit,
                    success_url=return_address(visit),
                    cancel_url=settings.BASE_URL + PAYMENT_METHOD,
                    now=self.now,
                )
            )
        except (StripePageUnavailable, CheckoutClosed):
            messages.error(
                request,
                "The payment page does not open at the moment. Please try again in a minute.",
            )
            return redirect("portal-payment-method")


class CheckoutDone(PortalView):
    """Where Checkout sends the customer back to."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Complete the visit at once, before any webhook, and show where the customer stands."""
        visit = self._visit(request.GET.get("visit", ""))
        try:
            visit = complete_from_return(visit, now=self.now)
        except StripePageUnavailable:
            return self.show("checkout_waits.html", visit=visit)
        if visit.status != CheckoutSession.Status.COMPLETE:
            return self.show("checkout_waits.html", visit=visit)
        if visit.version is None:
            messages.success(request, "The payment method is saved.")
            return redirect("portal")
        messages.success(request, f"Thank you. You chose {visit.version.plan.name}.")
        return redirect("portal")

    def _visit(self, public_id: str) -> CheckoutSession:
        try:
            number = decode(CheckoutSession.PREFIX, public_id)
        except IdMalformed as error:
            raise Http404("There was no such visit.") from error
        mine = CheckoutSession.objects.filter(customer=self.customer)
        found = mine.select_related("version__plan").filter(pk=number).first()
        if found is None:
            raise Http404("There was no such visit.")
        return found
