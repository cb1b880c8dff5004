"""Who may see the portal: signed-in members, each the pages of their own customer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.cache import add_never_cache_headers
from django.views import View

from accounts.models import Customer, Member


class PortalView(View):
    """A page of the portal; `customer` is the signed-in member's own and nobody else's.

    Who is not signed in is sent to do that; who has no customer is told where to go.
    """

    member: Member
    customer: Customer
    now: datetime

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Let members of a customer in."""
        if not isinstance(request.user, Member):
            return redirect_to_login(request.get_full_path())
        self.member, self.now = request.user, datetime.now(UTC)
        if self.member.customer is None:
            return render(request, "billing/no_customer.html", {"member": self.member})
        self.customer = self.member.customer
        response = super().dispatch(request, *args, **kwargs)
        add_never_cache_headers(response)
        return response

    @property
    def actor(self) -> str:
        """The member's id, as the audit keeps it."""
        return self.member.public_id

    def show(self, template: str, **context: Any) -> HttpResponse:
        """The page."""
        shown = {"customer": self.customer, "now": self.now, **context}
        return render(self.request, f"billing/{template}", shown)
