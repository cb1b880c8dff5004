"""What the admin's pages of metering stand on: rows that are looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

if TYPE_CHECKING:
    ReadOnlyAdmin = admin.ModelAdmin[Any]
    ReadOnlyInline = admin.TabularInline[Any, Any]
else:
    ReadOnlyAdmin = admin.ModelAdmin
    ReadOnlyInline = admin.TabularInline


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


class LookedAtInline(ReadOnlyInline):
    """The same, on the page of what they belong to."""

    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Only operations add rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Only operations change rows."""
        return False
