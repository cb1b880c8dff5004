"""The admin of wallets: topped up now, and by themselves."""

from __future__ import annotations

import secrets
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ActionForm
from django.db.models import QuerySet
from django.http import HttpRequest

from billing.admin.shown import ShownAdmin, ShownTable
from billing.domain.top_ups import AutoTopUpTerms, request_key_of_form
from billing.models import AutoTopUp, Invoice, Wallet
from billing.operations import topping_up


class AutoTopUpInWallet(ShownTable):
    """When it is topped up by itself."""

    model = AutoTopUp
    fields = ("enabled", "threshold", "amount", "monthly_cap", "suppressed_at", "suppressed_by")
    fields += ("checked_at", "updated_at")  # type: ignore[assignment]


class TopUpsInWallet(ShownTable):
    """What it got, or was to get, through Stripe."""

    model = Invoice
    fields = ("number", "status", "automatic", "total", "amount_paid", "failure_code")
    fields += ("created_at", "paid_at")  # type: ignore[assignment]
    ordering = ("-id",)
    show_change_link = True


class AmountsForm(ActionForm):
    """How much, for the actions that charge; minor units."""

    amount = forms.IntegerField(required=False, min_value=1, label="Amount (minor units)")
    threshold = forms.IntegerField(required=False, min_value=1, label="Threshold")
    monthly_cap = forms.IntegerField(required=False, min_value=1, label="Monthly cap")
    form = forms.CharField(
        required=False, label="", widget=forms.HiddenInput, initial=lambda: secrets.token_hex(16)
    )


@admin.register(Wallet)
class WalletAdmin(ShownAdmin):
    """Money paid ahead."""

    list_display = ("customer", "public_id", "currency", "balance", "automatic")
    list_filter = ("currency", "auto_top_up__enabled")
    list_select_related = ("customer", "auto_top_up")
    search_fields = ("customer__name", "customer__external_id")
    inlines = (AutoTopUpInWallet, TopUpsInWallet)
    action_form = AmountsForm
    actions = ("top_up", "switch_on", "switch_off")

    @admin.display(description="Automatic top-ups")
    def automatic(self, wallet: Wallet) -> str:
        """Whether it is topped up by itself."""
        settings = getattr(wallet, "auto_top_up", None)
        if settings is None or not settings.enabled:
            return "off"
        return "suppressed" if settings.suppressed_at else "on"

    @admin.action(description="Top up: charge the amount given", permissions=["operate"])
    def top_up(self, request: HttpRequest, rows: QuerySet[Wallet]) -> None:
        """Charge the customers' payment methods; workers do it. A form sent twice charges once."""
        amount = _typed(request, "amount")
        key = request_key_of_form(request.POST.get("form", ""), amount=amount)
        self._each_customer(
            request,
            rows,
            lambda customer_id, **by: topping_up.begin_top_up(
                customer_id, amount=amount, request_key=key, **by
            ),
        )

    @admin.action(
        description="Top up automatically: threshold, amount, monthly cap", permissions=["operate"]
    )
    def switch_on(self, request: HttpRequest, rows: QuerySet[Wallet]) -> None:
        """Switch on with the amounts given, and on again where it is suppressed."""
        terms = AutoTopUpTerms(
            threshold=_typed(request, "threshold"),
            amount=_typed(request, "amount"),
            monthly_cap=_typed(request, "monthly_cap"),
        )
        self._each_customer(
            request,
            rows,
            lambda customer_id, **by: topping_up.set_auto_top_up(customer_id, terms=terms, **by),
        )

    @admin.action(description="Switch automatic top-ups off", permissions=["operate"])
    def switch_off(self, request: HttpRequest, rows: QuerySet[Wallet]) -> None:
        """Begin no more of them."""
        self._each_customer(request, rows, topping_up.stop_auto_top_up)

    def _each_customer(self, request: HttpRequest, rows: QuerySet[Wallet], do: Any) -> None:

        def one(key: int, **by: Any) -> None:
            do(Wallet.objects.get(pk=key).customer_id, **by)

        self.each(request, rows, one)


def _typed(request: HttpRequest, name: str) -> int:
    typed = request.POST.get(name, "").strip()
    return int(typed) if typed.isascii() and typed.isdigit() else 0
