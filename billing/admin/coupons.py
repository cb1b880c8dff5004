"""The admin of coupons and credits; both are made by the API, which explains the terms."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from billing.admin.shown import ShownAdmin, money_column
from billing.domain.money import Money, format_money
from billing.models import Coupon, CouponRedemption, Credit
from billing.operations.couponing import archive_coupon, end_redemption
from billing.operations.customer_credits import end_credit


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


@admin.register(Credit)
class CreditAdmin(ShownAdmin):
    """Credits of customers; granted by the API."""

    list_display = ("customer", "public_id", "kind", "amount_shown", "left_shown", "priority")
    list_display += ("granted_at", "expires_at", "reason")  # type: ignore[assignment]
    list_filter = ("kind", "currency", ("expires_at", admin.EmptyFieldListFilter))
    list_select_related = ("customer",)
    search_fields = ("customer__name", "customer__external_id", "reason")
    date_hierarchy = "granted_at"
    actions = ("end",)
    amount_shown = money_column("amount", "Amount")

    @admin.display(description="Left")
    def left_shown(self, credit: Credit) -> str:
        """What can still be used."""
        return format_money(Money(credit.left, credit.currency))

    @admin.action(description="End: let what is left expire now", permissions=["operate"])
    def end(self, request: HttpRequest, rows: QuerySet[Credit]) -> None:
        """End credits."""
        self.each(request, rows, end_credit)
