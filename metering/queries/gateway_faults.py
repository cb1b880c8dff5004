"""What gateways get wrong when they ask."""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet

from metering.models import GatewayFault


def gateway_faults(
    gateway: str | None = None, *, since: datetime | None = None
) -> QuerySet[GatewayFault]:
    """Faults that are kept, those seen last first; of a gateway's name, "" of unknown ones."""
    found = GatewayFault.objects.order_by("-last_at", "-id")
    if gateway is not None:
        found = found.filter(gateway=gateway)
    if since is not None:
        found = found.filter(last_at__gte=since)
    return found
