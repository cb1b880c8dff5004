"""Creating gateways, setting their routes, disabling them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from accounts.domain.routes import Route, RouteMalformed
from accounts.models import AuditEntry, CatalogueVersion, Gateway, GatewayKey, GatewayRoute
from accounts.operations import gateways
from tests.factories.accounts import ACTOR, NOW, a_gateway

pytestmark = pytest.mark.django_db
CHAT = Route("/v1/chat/*", "chat.tokens", "POST", 100, "hold")
REST = Route("/*", "api.calls")


def version() -> int:
    return CatalogueVersion.objects.get().version


def test_a_gateway_comes_with_routes_in_order_and_one_key() -> None:
    gateway, made = a_gateway(CHAT, REST, name="edge")
    assert gateways.routes_of(gateway) == [CHAT, REST]
    assert bytes(GatewayKey.objects.get(gateway=gateway).digest) == made.digest
    actions = AuditEntry.objects.filter(subject=gateway.public_id).values_list("action", flat=True)
    assert sorted(actions) == ["gateway.created", "gateway_key.issued"]


def test_names_differ() -> None:
    a_gateway(name="edge")
    with pytest.raises(gateways.GatewayNameTaken):
        a_gateway(name="edge")
    assert Gateway.objects.count() == GatewayKey.objects.count() == 1


def test_a_wrong_route_creates_nothing() -> None:
    with pytest.raises(RouteMalformed):
        a_gateway(CHAT, Route("nowhere", "api.calls"))
    assert not Gateway.objects.exists()


def test_routes_are_replaced_as_a_whole_and_only_when_they_differ() -> None:
    gateway, _ = a_gateway(CHAT)
    before = version()
    for _ in range(2):
        gateways.change_routes(gateway.id, routes=[REST, CHAT], actor=ACTOR, now=NOW)
        assert gateways.routes_of(gateway) == [REST, CHAT]
    assert GatewayRoute.objects.count() == 2
    assert AuditEntry.objects.filter(action="gateway.routes_changed").count() == 1
    assert version() > before
    with pytest.raises(RouteMalformed):
        gateways.change_routes(gateway.id, routes=[Route("x", "m")], actor=ACTOR, now=NOW)
    assert gateways.routes_of(gateway) == [REST, CHAT]


def test_disabling_twice_is_once() -> None:
    gateway, _ = a_gateway()
    for moment in (NOW, NOW + timedelta(days=1)):
        assert gateways.disable_gateway(gateway.id, actor=ACTOR, now=moment).disabled_at == NOW
    assert AuditEntry.objects.filter(action="gateway.disabled").count() == 1


def test_a_gateway_that_is_not_there() -> None:
    with pytest.raises(gateways.GatewayUnknown):
        gateways.disable_gateway(1, actor=ACTOR, now=NOW)
    with pytest.raises(gateways.GatewayUnknown):
        gateways.change_routes(1, routes=[], actor=ACTOR, now=NOW)
