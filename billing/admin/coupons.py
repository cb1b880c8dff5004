"""The admin of coupons; they are made by the API, whose answers explain the terms."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from billing.admin.shown import ShownAdmin
from billing.models import Coupon, CouponRedemption
from billing.operations.couponing import archive_coupon, end_redemption


@admin.register(Coupon)
class CouponAdmin(ShownAdmin):
    """Coupons."""

    list_display = ("code", "name", "percent", "amounts", "periods", "redemptions")
    list_display += ("max_redemptions", "expires_at", "archived_at")  # type: ignore[assignment]
    list_filter = (("archived_at", admin.EmptyFieldListFilter),)
    search_fields = ("code", "name")
    actions = ("archive",)

    @admin.action(description="Archive: nobody can redeem it any more", permissions=["operate"])
    def archive(self, request: HttpRequest, rows: QuerySet[Coupon]) -> None:
        """Archive coupons; who redeemed them keeps them."""
        self.each(request, rows, archive_coupon)


@admin.register(CouponRedemption)
class CouponRedemptionAdmin(ShownAdmin):
    """Which customers redeemed which coupons."""

    list_display = ("customer", "public_id", "coupon", "redeemed_at", "ended_at")
    list_filter = (("ended_at", admin.EmptyFieldListFilter),)
    list_select_related = ("customer", "coupon")
    search_fields = ("coupon__code", "customer__name", "customer__external_id")
    date_hierarchy = "redeemed_at"
    actions = ("end",)

    @admin.action(description="End: it counts on no further bill", permissions=["operate"])
    def end(self, request: HttpRequest, rows: QuerySet[CouponRedemption]) -> None:
        """End customers' coupons."""
        self.each(request, rows, end_redemption)
