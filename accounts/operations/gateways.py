"""Creating gateways, setting their routes, disabling them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from django.db import IntegrityError, transaction

from accounts.domain.keys import NewKey
from accounts.domain.routes import Route, checked_routes
from accounts.models import Gateway, GatewayRoute
from accounts.operations.auditing import audit
from accounts.operations.keys import issue_gateway_key
from accounts.operations.versions import bump_catalogue


class GatewayNameTaken(Exception):
    """Another gateway has this name; names are the sources of events and must differ."""

    param = "name"


class GatewayUnknown(Exception):
    """No gateway has this id."""


def create_gateway(
    *, name: str, kind: str, routes: Sequence[Route] = (), actor: str, now: datetime
) -> tuple[Gateway, NewKey]:
    """Create a gateway with its routes and first key; raises GatewayNameTaken, RouteMalformed."""
    checked_routes(routes)
    with transaction.atomic():
        bump_catalogue()
        gateway = _insert(Gateway(name=name, kind=kind, created_at=now))
        _set_routes(gateway, routes)
        audit(
            actor=actor,
            action="gateway.created",
            subject=gateway.public_id,
            changes={"name": name, "kind": kind, "routes": [asdict(route) for route in routes]},
            now=now,
        )
        _, made = issue_gateway_key(gateway.id, name=name, actor=actor, now=now)
    return gateway, made


def change_routes(
    gateway_id: int, *, routes: Sequence[Route], actor: str, now: datetime
) -> Gateway:
    """Replace all routes of a gateway; the same routes again change nothing.

    Raises GatewayUnknown or RouteMalformed.
    """
    checked_routes(routes)
    with transaction.atomic():
        bump_catalogue()
        gateway = _locked(gateway_id)
        before = routes_of(gateway)
        if before == list(routes):
            return gateway
        gateway.routes.all().delete()
        _set_routes(gateway, routes)
        audit(
            actor=actor,
            action="gateway.routes_changed",
            subject=gateway.public_id,
            changes={"routes": [[asdict(each) for each in before], [asdict(e) for e in routes]]},
            now=now,
        )
    return gateway


def disable_gateway(gateway_id: int, *, actor: str, now: datetime) -> Gateway:
    """Refuse all keys of the gateway from the next call on; twice changes nothing.

    Raises GatewayUnknown.
    """
    with transaction.atomic():
        bump_catalogue()
        gateway = _locked(gateway_id)
        if gateway.disabled_at is None:
            gateway.disabled_at = now
            gateway.save(update_fields=["disabled_at"])
            audit(actor=actor, action="gateway.disabled", subject=gateway.public_id, now=now)
    return gateway


def routes_of(gateway: Gateway) -> list[Route]:
    """The routes of a gateway in the order in which they are tried."""
    return [
        Route(row.path, row.meter, row.method, row.quantity, row.mode)
        for row in gateway.routes.order_by("position")
    ]


def _set_routes(gateway: Gateway, routes: Sequence[Route]) -> None:
    GatewayRoute.objects.bulk_create(
        GatewayRoute(gateway=gateway, position=position, **asdict(route))
        for position, route in enumerate(routes)
    )


def _insert(gateway: Gateway) -> Gateway:
    try:
        with transaction.atomic():
            gateway.save(force_insert=True)
    except IntegrityError as error:
        raise GatewayNameTaken(f"Another gateway is called {gateway.name!r}.") from error
    return gateway


def _locked(gateway_id: int) -> Gateway:
    gateway = Gateway.objects.select_for_update().filter(pk=gateway_id).first()
    if gateway is None:
        raise GatewayUnknown("There is no such gateway.")
    return gateway
