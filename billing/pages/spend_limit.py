"""The customer's own spend limit."""

from __future__ import annotations

import re
from typing import Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from billing.domain.money import currency_of
from billing.operations.limiting import SpendLimitInvalid, set_spend_limit
from billing.pages import wording
from billing.pages.access import PortalView
from billing.queries.spend_limits import spend_limit_view

_AMOUNT: Final = re.compile(r"(\d{1,3}(?:,\d{3})+|\d{1,12})(?:\.(\d{1,3}))?", re.ASCII)


class AmountUnreadable(Exception):
    """What was typed is not an amount of the currency."""


class SpendLimit(PortalView):
    """What usage past the included one may cost in a billing period."""

    def get(self, request: HttpRequest) -> HttpResponse:  # noqa: ARG002
        """Show both limits, what is spent, and what that leaves."""
        return self._page()

    def post(self, request: HttpRequest) -> HttpResponse:
        """Set the limit, or remove it with `do=remove`."""
        typed = request.POST.get("amount", "").strip()
        currency = self.customer.currency
        try:
            amount = None if request.POST.get("do") == "remove" else minor(typed, currency)
            set_spend_limit(
                self.customer.id,
                amount=amount,
                set_by="customer",
                actor=self.actor,
                now=self.now,
            )
        except (AmountUnreadable, SpendLimitInvalid) as refused:
            return self._page(typed=typed, refused=str(refused), status=422)
        if amount is None:
            messages.success(request, "Your spend limit is removed.")
        else:
            shown = wording.money(amount, currency)
            messages.success(request, f"Your spend limit is {shown} from now on.")
        return redirect("portal-spend-limit")

    def _page(self, *, typed: str = "", refused: str = "", status: int = 200) -> HttpResponse:
        currency = self.customer.currency
        view = spend_limit_view(self.customer.id, currency=currency, now=self.now)
        kind = currency_of(currency)
        amounts = {
            name: wording.money(amount, currency) if amount is not None else ""
            for name, amount in (
                ("own", view.customer),
                ("operators", view.operator),
                ("spent", view.spent),
                ("remaining", view.remaining),
            )
        }
        if not typed and view.customer is not None and not refused:
            typed = wording.typed_money(view.customer, currency)
        page = self.show(
            "spend_limit.html",
            view=view,
            amounts=amounts,
            typed=typed,
            refused=refused,
            currency=kind.code.upper(),
            example="50" if not kind.exponent else f"50.{'0' * kind.exponent}",
        )
        page.status_code = status
        return page


def minor(typed: str, currency: str) -> int:
    """The minor units of an amount as people type it. Raises AmountUnreadable."""
    exponent = currency_of(currency).exponent
    found = _AMOUNT.fullmatch(typed)
    if found is None:
        raise AmountUnreadable(
            "Give an amount in figures, such as 1,000 or 50, with a point before its places."
        )
    whole, places = found.group(1).replace(",", ""), found.group(2) or ""
    if len(places) > exponent:
        raise AmountUnreadable(f"An amount has at most {exponent} places here.")
    return int(whole + places.ljust(exponent, "0"))
