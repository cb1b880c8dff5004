"""Usage events on pages: the customer's own, and for operators everybody's."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from rest_framework.exceptions import ValidationError

from accounts.domain import ids
from accounts.models import Customer
from accounts.queries import customer_by_reference
from billing.pages import fates
from billing.pages.access import PortalView
from billing.queries.event_fates import RefusedFate, WholeFate, event_by_id
from metering.api.event_exports import MEDIA_TYPES, MyExportQuery, event_download
from metering.models import Meter, QuarantinedEvent, UsageEvent
from metering.models.hours import occurred_before
from metering.queries.corrections import as_in_force
from metering.queries.events import events
from metering.queries.quarantine import quarantined_of, what_is_kept

SHOWN = 50
_ASKED_MAX = 300


class FileRefused(Exception):
    """No file can be made of what was asked; the sentence says why."""


class Events(PortalView):
    """The customer's usage events, the latest first, or those with an id."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show them."""
        asked = _asked(request, "id")
        return self.show(
            "events.html",
            asked=asked,
            **_listed(self.customer, asked=asked, before=_asked(request, "before")),
        )


class EventsFile(PortalView):
    """The customer's usage events as a file."""

    def get(self, request: HttpRequest) -> HttpResponseBase:
        """Send those of the days asked for, or all."""
        asked = {name: _asked(request, name) for name in ("from", "to", "format")}
        try:
            chosen = _days(asked["from"], asked["to"]) | {"format": _format(asked["format"])}
        except FileRefused as refused:
            page = self.show(
                "events.html",
                asked="",
                chosen=asked,
                refused=str(refused),
                **_listed(self.customer, asked="", before=""),
            )
            page.status_code = 422
            return page
        return event_download(self.customer, chosen, request, now=self.now)


class OneEvent(PortalView):
    """One usage event, and what became of it."""

    def get(self, request: HttpRequest, event: str) -> HttpResponse:  # noqa: ARG002
        """Show it; other customers' do not exist."""
        found = _found(event, caller=self.customer.id)
        if isinstance(found, WholeFate):
            return self.show("event.html", **fates.told(found), operator=False)
        return self.show("refused_event.html", **fates.told_refused(found, operator=False))


@admin.site.admin_view
def operator_events(request: HttpRequest) -> HttpResponse:
    """Let an operator find the events of a customer, or one by its id."""
    _check(request)
    asked, subject = _asked(request, "id"), _asked(request, "customer")
    if asked.startswith((f"{UsageEvent.PREFIX}_", f"{QuarantinedEvent.PREFIX}_")):
        return redirect("operator-event", event=asked)
    customer = customer_by_reference(subject) if subject else None
    shown: dict[str, Any] = {}
    if customer is not None:
        shown = _listed(customer, asked=asked, before=_asked(request, "before"))
    return render(
        request,
        "billing/operator_events.html",
        {
            **admin.site.each_context(request),
            "title": "Usage events",
            "asked": asked,
            "subject": subject,
            "customer": customer,
            "what_is_kept": what_is_kept(),
            **shown,
        },
    )


@admin.site.admin_view
def operator_event(request: HttpRequest, event: str) -> HttpResponse:
    """Show an operator one event, and what became of it."""
    _check(request)
    context = {**admin.site.each_context(request), "title": "Usage event", "operator": True}
    try:
        found = _found(event)
    except Http404:
        context |= {"asked": event, "missing": True, "what_is_kept": what_is_kept()}
        return render(request, "billing/operator_events.html", context, status=404)
    if isinstance(found, WholeFate):
        customer = Customer.objects.get(id=found.metered.event.customer_id)
        context |= {"customer": customer, **fates.told(found)}
        return render(request, "billing/operator_event.html", context)
    if not request.user.has_perm("metering.view_quarantinedevent"):
        raise PermissionDenied
    context |= fates.told_refused(found, operator=True)
    return render(request, "billing/operator_refused_event.html", context)


def _days(first: str, last: str) -> dict[str, datetime]:
    """The span of the days typed, both included, in UTC. Raises FileRefused."""
    span = {}
    try:
        if first:
            span["from"] = datetime.combine(date.fromisoformat(first), time(), UTC)
        if last:
            span["to"] = datetime.combine(date.fromisoformat(last), time(), UTC) + timedelta(days=1)
    except (ValueError, OverflowError) as error:
        raise FileRefused("Write days as 2026-11-30.") from error
    if len(span) == 2 and span["to"] <= span["from"]:
        raise FileRefused("The last day is before the first.")
    return span


def _format(asked: str) -> str:
    try:
        return MyExportQuery().validate_format(asked if asked in MEDIA_TYPES else "jsonl")
    except ValidationError as error:
        raise FileRefused("Parquet is not written here: choose JSON lines.") from error


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


def _found(public: str, *, caller: int | None = None) -> WholeFate | RefusedFate:
    try:
        found = event_by_id(public, caller=caller)
    except ids.IdMalformed:
        found = None
    if found is None:
        raise Http404("There is no such event.")
    return found


def _refused(customer: Customer, asked: str) -> list[dict[str, str]]:
    """What is in quarantine of the customer's events that have the id asked for."""
    if not asked:
        return []
    owned = _owned(asked)
    named = Q(external_id=asked)
    if owned is not None and owned[0] == customer.id:
        named |= Q(event_id=owned[1])
    states = QuarantinedEvent.State
    found = quarantined_of(customer).filter(named, state__in=(states.WAITING, states.DISCARDED))
    return [
        {
            "public_id": row.public_id,
            "external_id": row.external_id,
            "discarded": "discarded" if row.state == states.DISCARDED else "",
        }
        for row in found[:SHOWN]
    ]


def _listed(customer: Customer, *, asked: str, before: str) -> dict[str, Any]:
    """A page of a customer's events, and from where the next one goes on."""
    customer_id = customer.id
    found = _chosen(customer_id, asked)
    last = _owned(before)
    if last is not None and last[0] == customer_id:
        seen = UsageEvent.objects.filter(customer_id=customer_id, id=last[1]).first()
        if seen is not None:
            same = Q(occurred_at=seen.occurred_at, id__lt=seen.id)
            found = found.filter(Q(occurred_at__lt=seen.occurred_at) | same)
            # Implied by the others, and what the index is entered by.
            found = found.filter(occurred_before(seen.occurred_at + timedelta(hours=1)))
    rows = list(found.order_by("-hour", "-occurred_at", "-id")[: SHOWN + 1])
    standing = as_in_force(customer_id, events=rows[:SHOWN])
    numbers = {int(number) for each in standing for number in each.usage}
    keys = dict(Meter.objects.filter(id__in=numbers).values_list("id", "key"))
    return {
        "refused_rows": _refused(customer, asked),
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
