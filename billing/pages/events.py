"""Usage events on pages: the customer's own, and for operators everybody's."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from accounts.domain import ids
from accounts.models import Customer
from accounts.queries import customer_by_reference
from billing.pages import fates
from billing.pages.access import PortalView
from billing.queries.event_fates import WholeFate, whole_fate
from metering.models import Meter, UsageEvent
from metering.queries.corrections import as_in_force
from metering.queries.events import events

SHOWN = 50
_ASKED_MAX = 300


class Events(PortalView):
    """The customer's usage events, the latest first, or those with an id."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show them."""
        asked = _asked(request, "id")
        return self.show(
            "events.html",
            asked=asked,
            **_listed(self.customer.id, asked=asked, before=_asked(request, "before")),
        )


class OneEvent(PortalView):
    """One usage event, and what became of it."""

    def get(self, request: HttpRequest, event: str) -> HttpResponse:  # noqa: ARG002
        """Show it; other customers' do not exist."""
        fate = _fate(event, customer_id=self.customer.id)
        return self.show("event.html", **fates.told(fate), operator=False)


@admin.site.admin_view
def operator_events(request: HttpRequest) -> HttpResponse:
    """Let an operator find the events of a customer, or one by its id."""
    _check(request)
    asked, subject = _asked(request, "id"), _asked(request, "customer")
    if asked.startswith(f"{UsageEvent.PREFIX}_"):
        return redirect("operator-event", event=asked)
    customer = customer_by_reference(subject) if subject else None
    shown: dict[str, Any] = {}
    if customer is not None:
        shown = _listed(customer.id, asked=asked, before=_asked(request, "before"))
    return render(
        request,
        "billing/operator_events.html",
        {
            **admin.site.each_context(request),
            "title": "Usage events",
            "asked": asked,
            "subject": subject,
            "customer": customer,
            **shown,
        },
    )


@admin.site.admin_view
def operator_event(request: HttpRequest, event: str) -> HttpResponse:
    """Show an operator one event, and what became of it."""
    _check(request)
    fate = _fate(event)
    customer = Customer.objects.get(id=fate.metered.event.customer_id)
    return render(
        request,
        "billing/operator_event.html",
        {
            **admin.site.each_context(request),
            "title": "Usage event",
            "customer": customer,
            "operator": True,
            **fates.told(fate),
        },
    )


def _check(request: HttpRequest) -> None:
    if not request.user.has_perm("metering.view_usageevent"):
        raise PermissionDenied


def _asked(request: HttpRequest, name: str) -> str:
    text = request.GET.get(name, "").strip()[:_ASKED_MAX]
    return "" if "\x00" in text else text


def _owned(public: str) -> tuple[int, UUID] | None:
    try:
        return ids.decode_owned(UsageEvent.PREFIX, public)
    except ids.IdMalformed:
        return None


def _fate(public: str, *, customer_id: int | None = None) -> WholeFate:
    owned = _owned(public)
    if owned is None or customer_id not in {None, owned[0]}:
        raise Http404("There is no such event.")
    fate = whole_fate(owned[0], event_id=owned[1])
    if fate is None:
        raise Http404("There is no such event.")
    return fate


def _listed(customer_id: int, *, asked: str, before: str) -> dict[str, Any]:
    """A page of a customer's events, and from where the next one goes on."""
    found = _chosen(customer_id, asked)
    last = _owned(before)
    if last is not None and last[0] == customer_id:
        seen = UsageEvent.objects.filter(customer_id=customer_id, id=last[1]).first()
        if seen is not None:
            same = Q(occurred_at=seen.occurred_at, id__lt=seen.id)
            found = found.filter(Q(occurred_at__lt=seen.occurred_at) | same)
    rows = list(found.order_by("-occurred_at", "-id")[: SHOWN + 1])
    standing = as_in_force(customer_id, events=rows[:SHOWN])
    numbers = {int(number) for each in standing for number in each.usage}
    keys = dict(Meter.objects.filter(id__in=numbers).values_list("id", "key"))
    return {
        "rows": [fates.row(each, keys) for each in standing],
        "older": fates.public_id(rows[SHOWN - 1]) if len(rows) > SHOWN else "",
    }


def _chosen(customer_id: int, asked: str) -> QuerySet[UsageEvent]:
    if not asked:
        return events(customer_id)
    owned = _owned(asked)
    if owned is None:
        return events(customer_id, external_id=asked)
    found = events(customer_id)
    return found.filter(id=owned[1]) if owned[0] == customer_id else found.none()
