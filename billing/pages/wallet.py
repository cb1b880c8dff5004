"""The customer's wallet: topping it up, now and by itself."""

from __future__ import annotations

import secrets
from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from accounts.domain.ids import IdMalformed, decode
from billing.domain.invoices import InvoiceTransitionRefused
from billing.domain.money import currency_of
from billing.domain.top_ups import (
    AutoTopUpTerms,
    TopUpInvalid,
    TopUpStatus,
    request_key_of_form,
    status_of_top_up,
)
from billing.models import Invoice, StripeCustomer
from billing.operations import topping_up
from billing.pages import wording
from billing.pages.access import PortalView
from billing.pages.spend_limit import AmountUnreadable, minor
from billing.payments.charging import charge_at_once
from billing.queries.subscriptions import current_subscription
from billing.queries.top_ups import auto_top_up_view, top_ups

SHOWN: Final = 12
_MEMBERS: Final = ("threshold", "amount", "monthly_cap")
_REFUSED: Final = (
    topping_up.TopUpRefused,
    topping_up.TopUpUnderWay,
    topping_up.TopUpUnknown,
    InvoiceTransitionRefused,
)


class AmountRefused(Exception):
    """What was typed into a field cannot be topped up."""

    def __init__(self, field: str, words: str) -> None:
        super().__init__(words)
        self.field = field


class Wallet(PortalView):
    """What is paid ahead, how it came in, and what happens when it runs low."""

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002
        """Show it."""
        return self._page()

    def post(self, request: HttpRequest) -> HttpResponse:
        """Do what the button pressed says."""
        try:
            match request.POST.get("do", ""):
                case "top-up":
                    self._top_up()
                case "cancel":
                    self._cancel()
                case "stop":
                    topping_up.stop_auto_top_up(self.customer.id, actor=self.actor, now=self.now)
                    messages.success(request, "Automatic top-ups are switched off.")
                case _:
                    self._set()
        except AmountRefused as refused:
            return self._page(refused=str(refused), param=refused.field)
        except _REFUSED as refused:
            messages.error(request, str(refused))
        return redirect("portal-wallet")

    def _top_up(self) -> None:
        amount = self._amount("top_up")
        try:
            begun = topping_up.begin_top_up(
                self.customer.id,
                amount=amount,
                actor=self.actor,
                request_key=request_key_of_form(self.request.POST.get("form", ""), amount=amount),
                now=self.now,
            )
        except TopUpInvalid as refused:
            raise AmountRefused("top_up", f"The amount {refused.detail}.") from refused
        found = charge_at_once(begun, now=self.now)
        paid = wording.money(amount, found.currency)
        match _status(found):
            case TopUpStatus.PAID:
                messages.success(self.request, f"{paid} is in your wallet.")
            case TopUpStatus.FAILED:
                messages.error(self.request, f"The payment failed. {wording.failure(found)}")
            case _:
                messages.info(self.request, f"The top-up of {paid} is under way.")

    def _cancel(self) -> None:
        try:
            number = decode(Invoice.PREFIX, self.request.POST.get("top_up", ""))
        except IdMalformed as error:
            raise topping_up.TopUpUnknown("There is no such top-up.") from error
        topping_up.cancel_top_up(self.customer.id, top_up_id=number, actor=self.actor, now=self.now)
        messages.success(self.request, "The top-up is canceled.")

    def _set(self) -> None:
        terms = AutoTopUpTerms(*(self._amount(name) for name in _MEMBERS))
        try:
            topping_up.set_auto_top_up(
                self.customer.id, terms=terms, actor=self.actor, now=self.now
            )
        except TopUpInvalid as refused:
            raise AmountRefused(refused.param, f"This {refused.detail}.") from refused
        messages.success(self.request, "Automatic top-ups are switched on.")

    def _amount(self, name: str) -> int:
        try:
            return minor(self.request.POST.get(name, "").strip(), self.customer.currency)
        except AmountUnreadable as error:
            raise AmountRefused(name, str(error)) from error

    def _page(self, *, refused: str = "", param: str = "") -> HttpResponse:
        view = auto_top_up_view(self.customer, now=self.now)
        kind = currency_of(view.currency)
        kept = {"threshold": view.threshold, "amount": view.amount, "monthly_cap": view.monthly_cap}
        typed = {name: wording.typed_money(kept[name], view.currency) for name in _MEMBERS}
        typed = {name: self.request.POST.get(name, typed[name]) for name in _MEMBERS}
        rows = [_row(each) for each in top_ups(self.customer.id)[:SHOWN]]
        page = self.show(
            "wallet.html",
            view=view,
            balance=wording.decimal_money(f"{view.balance:f}", view.currency),
            topped_up=wording.money(view.topped_up, view.currency),
            cap=wording.money(view.monthly_cap or 0, view.currency),
            rests=view.enabled and current_subscription(self.customer.id) is None,
            why=wording.suppression(view) if view.suppressed_at else "",
            under_way=next((row for row in rows if row["open"]), None),
            rows=rows,
            form=secrets.token_hex(16),
            card=StripeCustomer.objects.filter(customer=self.customer, deleted_at=None).first(),
            typed={**typed, "top_up": self.request.POST.get("top_up", "")},
            refused={param: refused},
            currency=kind.code.upper(),
            least=wording.money(kind.minimum_charge, view.currency),
        )
        page.status_code = 422 if refused else 200
        return page


def _status(invoice: Invoice) -> TopUpStatus:
    return status_of_top_up(
        invoice.status, amount_paid=invoice.amount_paid, failure_code=invoice.failure_code
    )


def _row(invoice: Invoice) -> dict[str, Any]:
    status = _status(invoice)
    return {
        "invoice": invoice,
        "amount": wording.money(invoice.total, invoice.currency),
        "state": wording.state(status),
        "open": status in (TopUpStatus.PENDING, TopUpStatus.ACTION_REQUIRED),
        "confirm": invoice.hosted_url if status == TopUpStatus.ACTION_REQUIRED else "",
        "why": wording.failure(invoice) if status == TopUpStatus.FAILED else "",
    }
