"""Meters and prices for the operator's staff: made by the API, here looked at, archived, activated.

Entitlements, grants, balances and rollups have composite primary keys, which the admin cannot show.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts.models import Member
from metering.admin import gateways as _gateways  # noqa: F401  registered by being read
from metering.admin.looked_at import LookedAt, LookedAtInline
from metering.domain.prices import described
from metering.models import (
    Backfill,
    Fault,
    Meter,
    MeterVersion,
    Offer,
    PriceTable,
    PriceTableVersion,
    QuarantinedEvent,
)
from metering.operations import backfilling, redriving
from metering.operations.defining import archive_meter
from metering.operations.pricing import PricesInvalid, activate_prices
from metering.queries.backfills import progress_of
from metering.queries.prices import difference_of, predecessor_of
from metering.queries.quarantine import event_bounds, filling
from metering.queries.usage import EventsGone

_CHANGES_SHOWN = 200
_REDRIVEN_AT_ONCE = 1_000  # as over the API: one transaction each


class MeterVersionInline(LookedAtInline):
    """What a meter matches from which time on; the meter's own row is version 1."""

    model = MeterVersion
    ordering = ("number",)
    fields = (
        *("number", "effective_at", "event_type", "value_property", "dimensions", "filters"),
        *("price_table", "created_by", "created_at"),
    )


@admin.register(Meter)
class MeterAdmin(LookedAt):
    """Meters: see, search, archive; defined through the API, which checks them."""

    list_display = ("key", "event_type", "aggregation", "value_property", "unit", "archived_at")
    list_filter = ("aggregation",)
    search_fields = ("key", "event_type")
    ordering = ("key",)
    actions = ("archive",)
    inlines = (MeterVersionInline,)

    def has_archive_permission(self, request: HttpRequest) -> bool:
        """Whoever could change meters may archive them."""
        return request.user.has_perm("metering.change_meter")

    @admin.action(description="Archive: count no more events", permissions=["archive"])
    def archive(self, request: HttpRequest, queryset: QuerySet[Meter]) -> None:
        """Take the meters out of use."""
        assert isinstance(request.user, Member)
        for meter in queryset:
            archive_meter(meter.id, actor=request.user.public_id, now=datetime.now(UTC))


class PriceTableVersionInline(LookedAtInline):
    """All versions of a table, with links to what each changes."""

    model = PriceTableVersion
    ordering = ("-number",)
    fields = ("number", "status", "effective_at", "source", "sha256", "created_by")
    readonly_fields = ("status",)
    show_change_link = True


@admin.register(PriceTable)
class PriceTableAdmin(LookedAt):
    """Price tables; made and drafted through the API or by `manage.py import_prices`."""

    list_display = ("key", "name", "currency", "created_at")
    search_fields = ("key", "name")
    ordering = ("key",)
    inlines = (PriceTableVersionInline,)


@admin.register(PriceTableVersion)
class PriceTableVersionAdmin(LookedAt):
    """A version of prices: what it changes, and the button that lets it stand."""

    list_display = ("table", "number", "status", "effective_at", "source", "created_by")
    list_filter = ("table",)
    list_select_related = ("table",)
    ordering = ("-id",)
    fields = (*list_display, "sha256", "created_at", "activated_at", "changes")
    readonly_fields = ("status", "changes")
    actions = ("activate",)

    def has_activate_permission(self, request: HttpRequest) -> bool:
        """Whoever could change prices may let them stand."""
        return request.user.has_perm("metering.change_pricetableversion")

    @admin.display(description="What it changes")
    def changes(self, version: PriceTableVersion) -> SafeString:
        """Prices that differ from those of the version whose place this one takes."""
        diff = described(difference_of(version, base=predecessor_of(version)))
        rows = [(kind, row) for kind, found in diff.items() for row in found]
        lines = format_html_join(
            "",
            "<li>{}: {} {}: {} → {}</li>",
            (
                (kind, row["model"], row["class"], row["before"] or "-", row["after"] or "-")
                for kind, row in rows[:_CHANGES_SHOWN]
            ),
        )
        rest = len(rows) - _CHANGES_SHOWN
        more = format_html("<p>… and {} more, in the API.</p>", rest) if rest > 0 else ""
        return format_html("<ul>{}</ul>{}", lines, more)

    @admin.action(description="Activate as soon as may be", permissions=["activate"])
    def activate(self, request: HttpRequest, queryset: QuerySet[PriceTableVersion]) -> None:
        """Let the versions' prices stand for what occurs from then on."""
        assert isinstance(request.user, Member)
        for version in queryset.order_by("number"):
            try:
                activate_prices(
                    version.table_id,
                    number=version.number,
                    ahead=timedelta(seconds=settings.EVENT_MAX_AHEAD_S),
                    actor=request.user.public_id,
                    now=datetime.now(UTC),
                )
            except PricesInvalid as error:
                self.message_user(request, f"{version}: {error}", messages.ERROR)


@admin.register(Offer)
class OfferAdmin(LookedAt):
    """The plans on sale, as billing published them."""

    list_display = ("plan_key", "currency", "plan_name", "rank")
    list_filter = ("currency",)
    ordering = ("currency", "rank")


@admin.register(Fault)
class FaultAdmin(LookedAt):
    """Invariants that are broken at this moment."""

    list_display = ("invariant", "subject", "detail", "found_at")
    list_filter = ("invariant",)
    search_fields = ("subject",)
    ordering = ("-found_at",)


class DiscardForm(ActionForm):
    """Why, for the action that gives events up."""

    reason = forms.CharField(
        required=False, max_length=500, label="Why, if given up (the customer reads it)"
    )


@admin.register(QuarantinedEvent)
class QuarantinedEventAdmin(LookedAt):
    """Events that were refused and kept: see why, try them again, give them up."""

    list_display = (
        "type",
        "state",
        "code",
        "detail",
        "subject",
        "source",
        "external_id",
        "times",
        "last_at",
    )
    list_filter = ("state", "code", "shape", "type")
    search_fields = ("subject", "external_id", "source", "type")
    readonly_fields = ("point", "mend")
    ordering = ("-id",)
    action_form = DiscardForm
    actions = ("redrive", "discard")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list, and how full the quarantine is."""
        full = filling()
        said = (
            f"{full.events:,} of {settings.QUARANTINE_EVENTS:,} events wait, "
            f"of {full.bytes:,} of {settings.QUARANTINE_BYTES:,} bytes"
        )
        return super().changelist_view(request, {**(extra_context or {}), "subtitle": said})

    @admin.display(description="Where it stopped")
    def point(self, row: QuarantinedEvent) -> str:
        """Where on its way."""
        return row.refusal.point

    @admin.display(description="What to do")
    def mend(self, row: QuarantinedEvent) -> str:
        """What helps, while it waits."""
        if row.state == row.State.WAITING:
            return row.refusal.mend
        return f"Nothing: it is {'discarded' if row.state == row.State.DISCARDED else 'counted'}."

    def has_mend_permission(self, request: HttpRequest) -> bool:
        """Whoever could change events may try them again."""
        return request.user.has_perm("metering.change_quarantinedevent")

    @admin.action(description="Try again", permissions=["mend"])
    def redrive(self, request: HttpRequest, queryset: QuerySet[QuarantinedEvent]) -> None:
        """Count what can be counted by now, at most a thousand at once."""
        assert isinstance(request.user, Member)
        chosen = list(queryset.order_by("id").values_list("id", flat=True)[:_REDRIVEN_AT_ONCE])
        done = redriving.redrive(
            event_ids=chosen,
            limit=len(chosen),
            bounds=event_bounds(),
            actor=request.user.public_id,
            now=datetime.now(UTC),
        )
        self.message_user(
            request,
            f"{done.counted} counted, {done.duplicates} counted before, {done.refused} refused.",
            messages.WARNING if done.refused else messages.SUCCESS,
        )

    @admin.action(description="Give up for good", permissions=["mend"])
    def discard(self, request: HttpRequest, queryset: QuerySet[QuarantinedEvent]) -> None:
        """Give events up that are not to be counted; that they were, and why, stays."""
        assert isinstance(request.user, Member)
        gone = redriving.discard(
            event_ids=list(queryset.values_list("id", flat=True)),
            reason=request.POST.get("reason", "").strip()[:500],
            actor=request.user.public_id,
            now=datetime.now(UTC),
        )
        self.message_user(request, f"{gone} given up.")


@admin.register(Backfill)
class BackfillAdmin(LookedAt):
    """Backfills: see how far they are, close them, revert them; supplied through the API."""

    list_display = ("public_id", "event_type", "mode", "status", "start_at", "end_at", "reason")
    list_filter = ("status", "mode")
    search_fields = ("event_type", "reason")
    ordering = ("-id",)
    readonly_fields = ("progress",)
    actions = ("close", "revert")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whoever could change backfills may close and revert them."""
        return request.user.has_perm("metering.change_backfill")

    @admin.display(description="Events")
    def progress(self, backfill: Backfill) -> str:
        """What became of its events."""
        found = asdict(progress_of(backfill.id))
        return ", ".join(f"{number:,} {name}" for name, number in found.items() if number) or "none"

    @admin.action(description="Close: let it count", permissions=["operate"])
    def close(self, request: HttpRequest, queryset: QuerySet[Backfill]) -> None:
        """Let them count; one that cannot be closed keeps no other from it."""
        assert isinstance(request.user, Member)
        for backfill in queryset:
            try:
                backfilling.close(backfill.id, actor=request.user.public_id, now=datetime.now(UTC))
            except (backfilling.BackfillNotOpen, EventsGone) as refused:
                self.message_user(request, f"{backfill}: {refused}", messages.ERROR)

    @admin.action(description="Revert: drop it, or undo it", permissions=["operate"])
    def revert(self, request: HttpRequest, queryset: QuerySet[Backfill]) -> None:
        """Drop or undo them; one that cannot be undone keeps no other from it."""
        assert isinstance(request.user, Member)
        for backfill in queryset:
            try:
                backfilling.revert(backfill.id, actor=request.user.public_id, now=datetime.now(UTC))
            except EventsGone as refused:
                self.message_user(request, f"{backfill}: {refused}", messages.ERROR)
