"""Meters for the operator's staff. Made by the API, so here they are only looked at and archived.

Entitlements, grants, balances and rollups have composite primary keys, which the admin cannot show.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.models import Member
from metering.models import Fault, Meter, Offer
from metering.operations.defining import archive_meter

if TYPE_CHECKING:
    ReadOnlyAdmin = admin.ModelAdmin[Any]
else:
    ReadOnlyAdmin = admin.ModelAdmin


class LookedAt(ReadOnlyAdmin):
    """Rows that nobody adds, changes or deletes by hand."""

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """Only operations add rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Only operations change rows."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Only operations delete rows."""
        return False


@admin.register(Meter)
class MeterAdmin(LookedAt):
    """Meters: see, search, archive; defined through the API, which checks them."""

    list_display = ("key", "event_type", "aggregation", "value_property", "unit", "archived_at")
    list_filter = ("aggregation",)
    search_fields = ("key", "event_type")
    ordering = ("key",)
    actions = ("archive",)

    def has_archive_permission(self, request: HttpRequest) -> bool:
        """Whoever could change meters may archive them."""
        return request.user.has_perm("metering.change_meter")

    @admin.action(description="Archive: count no more events", permissions=["archive"])
    def archive(self, request: HttpRequest, queryset: QuerySet[Meter]) -> None:
        """Take the meters out of use."""
        assert isinstance(request.user, Member)
        for meter in queryset:
            archive_meter(meter.id, actor=request.user.public_id, now=datetime.now(UTC))


@admin.register(Offer)
class OfferAdmin(LookedAt):
    """The plans on sale, as billing published them."""

    list_display = ("plan_key", "plan_name", "rank")
    ordering = ("rank",)


@admin.register(Fault)
class FaultAdmin(LookedAt):
    """Invariants that are broken at this moment."""

    list_display = ("invariant", "subject", "detail", "found_at")
    list_filter = ("invariant",)
    search_fields = ("subject",)
    ordering = ("-found_at",)
