"""Gateways that ask wrongly: what of, since when, how often, and what to do."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.admin import GatewayAdmin
from accounts.models import Gateway
from metering.admin.looked_at import LookedAt
from metering.models import GatewayFault
from metering.queries.gateway_faults import gateway_faults

_DOCS = "docs/gateways.md: “When the gateway is set up wrongly”"
_LIST = "admin:metering_gatewayfault_changelist"


class _GatewayFilter(admin.SimpleListFilter):
    """By gateway, the unknown ones as such."""

    title = "gateway"
    parameter_name = "gateway"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002
        """Those of which there is something."""
        names = GatewayFault.objects.order_by("gateway").values_list("gateway", flat=True)
        return [(name or "-", name or "unknown") for name in names.distinct()]

    def queryset(
        self,
        request: HttpRequest,  # noqa: ARG002
        queryset: QuerySet[GatewayFault],
    ) -> QuerySet[GatewayFault]:
        """Theirs."""
        asked = self.value()
        if asked is None:
            return queryset
        return queryset.filter(gateway="" if asked == "-" else asked)


@admin.register(GatewayFault)
class GatewayFaultAdmin(LookedAt):
    """What gateways got wrong in the last 30 days: one row a gateway and fault."""

    list_display = ("fault", "gateway_shown", "count", "last_at", "detail", "mend")
    list_filter = (_GatewayFilter, "code", "last_at")
    search_fields = ("gateway", "code", "detail", "param")
    search_help_text = "Part of a gateway's name, a fault's code, or its detail."
    ordering = ("-last_at", "-id")
    fields = ("gateway_shown", "code", "means", "mend", "page", "detail", "param")
    fields += ("count", "first_at", "last_at")  # type: ignore[assignment]
    readonly_fields = ("gateway_shown", "means", "mend", "page")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list, under the name by which documents call it."""
        title = {"title": "Gateways that ask wrongly", **(extra_context or {})}
        return super().changelist_view(request, title)

    @admin.display(description="Fault", ordering="code")
    def fault(self, row: GatewayFault) -> str:
        """Its code, and whether it is likely to be no gateway's."""
        return f"{row.code} (strangers, too)" if row.advice.anybody else row.code

    @admin.display(description="Gateway", ordering="gateway")
    def gateway_shown(self, row: GatewayFault) -> str | SafeString:
        """Its name, which leads to it."""
        if not row.gateway:
            return "unknown"
        found = Gateway.objects.filter(name=row.gateway).first()
        if found is None:
            return row.gateway
        address = reverse("admin:accounts_gateway_change", args=(found.pk,))
        return format_html('<a href="{}">{}</a>', address, row.gateway)

    @admin.display(description="What it means")
    def means(self, row: GatewayFault) -> str:
        """What the gateway did."""
        return row.advice.means

    @admin.display(description="What to do")
    def mend(self, row: GatewayFault) -> str:
        """What helps."""
        return row.advice.mend

    @admin.display(description="More of it")
    def page(self, row: GatewayFault) -> SafeString:
        """The page of the problem, which this server has, and where the set-up is described."""
        address = reverse("problem", args=(row.code,))
        return format_html('<a href="{}">{}</a>, and {}', address, row.code, _DOCS)


admin.site.unregister(Gateway)


@admin.register(Gateway)
class GatewayThatAsksAdmin(GatewayAdmin):
    """Gateways, with what they get wrong."""

    list_display = (*GatewayAdmin.list_display, "asks_wrongly")  # type: ignore[assignment]
    fields = (*GatewayAdmin.fields, "asks_wrongly")  # type: ignore[assignment]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """What it gets wrong is nobody's to write."""
        return (*super().get_readonly_fields(request, obj), "asks_wrongly")

    @admin.display(description="Asks wrongly")
    def asks_wrongly(self, gateway: Gateway) -> str | SafeString:
        """What it got wrong, which leads to the list."""
        if not gateway.name:
            return "nothing seen"  # it is being added: what is nobody's is not its
        found = ", ".join(gateway_faults(gateway.name).values_list("code", flat=True))
        if not found:
            return "nothing seen"
        address = f"{reverse(_LIST)}?{urlencode({'gateway': gateway.name})}"
        return format_html('<a href="{}">{}</a>', address, found)
