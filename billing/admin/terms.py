"""The admin of what holds for one customer besides the plan: details, spend limits, overrides."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from billing.admin.shown import ShownAdmin
from billing.domain.money import Money, format_money
from billing.models import BillingDetails, Override, SpendLimit
from billing.operations.limiting import SetBy, set_spend_limit
from billing.operations.overriding import end_override


@admin.register(BillingDetails)
class BillingDetailsAdmin(ShownAdmin):
    """Who invoices are made out to; set by the API, and by customers in the portal."""

    list_display = ("customer", "legal_name", "city", "country", "tax_id", "tax_exempt")
    list_display += ("updated_at",)  # type: ignore[assignment]
    list_filter = ("country", "tax_exempt")
    list_select_related = ("customer",)
    search_fields = ("customer__name", "customer__external_id", "legal_name", "tax_id")


@admin.register(SpendLimit)
class SpendLimitAdmin(ShownAdmin):
    """How much overage may cost; set by the API, and by customers in the portal."""

    list_display = ("customer", "set_by", "amount_shown", "updated_at")
    list_filter = ("set_by",)
    list_select_related = ("customer",)
    search_fields = ("customer__name", "customer__external_id")
    actions = ("remove",)

    @admin.display(description="Limit per period", ordering="amount")
    def amount_shown(self, limit: SpendLimit) -> str:
        """The limit as people write it."""
        return format_money(Money(limit.amount, limit.customer.currency))

    @admin.action(description="Remove: let overage cost what it costs", permissions=["operate"])
    def remove(self, request: HttpRequest, rows: QuerySet[SpendLimit]) -> None:
        """Remove limits; the next check knows."""

        def one(key: int, **by: Any) -> None:
            limit = SpendLimit.objects.get(pk=key)
            set_by: SetBy = "customer" if limit.set_by == "customer" else "operator"
            set_spend_limit(limit.customer_id, amount=None, set_by=set_by, **by)

        self.each(request, rows, one)


@admin.register(Override)
class OverrideAdmin(ShownAdmin):
    """What customers get otherwise; agreed on by the API, whose answers explain the terms."""

    list_display = ("customer", "public_id", "meter", "feature", "denied", "terms")
    list_display += ("starts_at", "ends_at", "reason")  # type: ignore[assignment]
    list_filter = ("kind", ("ends_at", admin.EmptyFieldListFilter))
    list_select_related = ("customer", "meter")
    search_fields = ("customer__name", "customer__external_id", "feature", "meter__key", "reason")
    date_hierarchy = "starts_at"
    actions = ("end_now",)

    @admin.action(description="End now: the plan's terms hold again", permissions=["operate"])
    def end_now(self, request: HttpRequest, rows: QuerySet[Override]) -> None:
        """End overrides; the next check knows."""

        def one(key: int, **by: Any) -> None:
            override = Override.objects.get(pk=key)
            end_override(override.customer_id, override_id=key, **by)

        self.each(request, rows, one)
