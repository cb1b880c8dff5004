"""The customer's coupons: what was redeemed, and a code to redeem."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from billing.domain.discounts import CouponInvalid
from billing.operations.couponing import CouponRefused, CouponUnknown, redeem
from billing.pages.access import PortalView
from billing.queries.coupons import discount_of, periods_left, redemptions

_SHOWN = 50


class Coupons(PortalView):
    """What is taken off the next bills."""

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002
        """Show what was redeemed."""
        return self._page()

    def post(self, request: HttpRequest) -> HttpResponse:
        """Redeem a code."""
        typed = request.POST.get("code", "").strip()[:100]
        try:
            redeemed = redeem(self.customer.id, code=typed, actor=self.actor, now=self.now)
        except CouponInvalid:
            return self._page(typed=typed, refused="A code has letters, digits, '-' and '_'.")
        except (CouponUnknown, CouponRefused) as refused:
            return self._page(typed=typed, refused=str(refused))
        terms = discount_of(redeemed.coupon).words(currency=self.customer.currency)
        messages.success(request, f"{redeemed.coupon.code} counts from now on: {terms}.")
        return redirect("portal-coupons")

    def _page(self, *, typed: str = "", refused: str = "") -> HttpResponse:
        rows = [
            {
                "coupon": each.coupon,
                "terms": discount_of(each.coupon).words(currency=self.customer.currency),
                "redeemed_at": each.redeemed_at,
                "left": periods_left(each),
            }
            for each in redemptions(self.customer.id)[:_SHOWN]
        ]
        page = self.show("coupons.html", rows=rows, typed=typed, refused=refused)
        page.status_code = 422 if refused else 200
        return page
