"""Gateways: create, list, set routes, further keys, disable."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.api_keys import Rotation
from accounts.api.describing import describe
from accounts.api.fields import InstantField, KeyField, PublicIdField, TextField, WholeField
from accounts.api.serializing import NoBody, StrictSerializer
from accounts.api.views import ManagementView, number_of
from accounts.domain.routes import MODES, QUANTITY_MAX, Route
from accounts.models import Gateway, GatewayKey
from accounts.operations import gateways, keys
from accounts.queries import gateway_by_reference


class RouteShape(StrictSerializer):
    """One route: method and path pattern to meter, quantity, mode."""

    method = TextField(max_length=16, required=False, default="*")
    path = TextField(max_length=500)
    meter = KeyField()
    quantity = WholeField(most=QUANTITY_MAX, required=False, default=1)
    mode = serializers.ChoiceField(MODES, required=False, default="consume")


class GatewayShape(serializers.Serializer[Gateway]):
    """A gateway as it is answered."""

    id = PublicIdField(Gateway.PREFIX, source="pk")
    name = serializers.CharField()
    kind = serializers.CharField()
    created_at = InstantField()
    disabled_at = InstantField(allow_null=True)
    routes = serializers.SerializerMethodField()

    def get_routes(self, gateway: Gateway) -> list[dict[str, Any]]:
        """The routes in the order in which they are tried."""
        return [dict(RouteShape(route).data) for route in gateways.routes_of(gateway)]


class NewGatewayShape(GatewayShape):
    """A new gateway with `key`, which is shown this once."""

    key = serializers.CharField(help_text="Shown this once; only its digest is kept.")


class GatewayKeyShape(serializers.Serializer[GatewayKey]):
    """A gateway's key as it is answered: never the key itself."""

    id = PublicIdField(GatewayKey.PREFIX, source="pk")
    gateway = PublicIdField(Gateway.PREFIX, source="gateway_id")
    name = serializers.CharField()
    prefix = serializers.CharField()
    created_at = InstantField()
    expires_at = InstantField(allow_null=True)
    revoked_at = InstantField(allow_null=True)


class NewGatewayKeyShape(GatewayKeyShape):
    """A new key of a gateway with `key`, which is shown this once."""

    key = serializers.CharField(help_text="Shown this once; only its digest is kept.")


class Routes(StrictSerializer):
    """All routes of a gateway; the first that matches wins."""

    routes = RouteShape(many=True)


class NewGateway(StrictSerializer):
    """A gateway to be created."""

    name = TextField(max_length=100)
    kind = KeyField(max_length=40, required=False, default="other")
    routes = RouteShape(many=True, required=False, default=list)


class NewGatewayKey(StrictSerializer):
    """A further key of a gateway."""

    name = TextField(max_length=200)
    expires_at = InstantField(allow_null=True, required=False)


class Gateways(ManagementView):
    """All gateways."""

    scopes = {"GET": "gateways:read", "POST": "gateways:write"}

    @describe("List gateways", answer=GatewayShape, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List gateways, newest first."""
        self.query()
        return self.page(Gateway.objects.all(), GatewayShape)

    @describe("Create a gateway", body=NewGateway, answer=NewGatewayShape, status=201)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Create a gateway with its first key."""
        asked = self.body(NewGateway)
        gateway, made = gateways.create_gateway(
            name=asked["name"], kind=asked["kind"], routes=_routes(asked),
            actor=self.actor, now=self.now,
        )  # fmt: skip
        return Response({**GatewayShape(gateway).data, "key": made.text}, status=201)


class OneGateway(ManagementView):
    """One gateway."""

    scopes = {"GET": "gateways:read"}

    @describe("See a gateway", answer=GatewayShape)
    def get(self, request: Request, gateway: str) -> Response:  # noqa: ARG002
        """See a gateway and its routes."""
        self.query()
        return Response(GatewayShape(gateway_of(gateway)).data)


class GatewayRoutes(ManagementView):
    """The routes of a gateway, as a whole."""

    scopes = {"PUT": "gateways:write"}

    @describe("Set a gateway's routes", body=Routes, answer=GatewayShape)
    def put(self, request: Request, gateway: str) -> Response:  # noqa: ARG002
        """Replace all routes."""
        changed = gateways.change_routes(
            gateway_of(gateway).id,
            routes=_routes(self.body(Routes)),
            actor=self.actor,
            now=self.now,
        )
        return Response(GatewayShape(changed).data)


class DisableGateway(ManagementView):
    """Refuse all keys of a gateway."""

    scopes = {"POST": "gateways:write"}

    @describe("Disable a gateway", body=NoBody, answer=GatewayShape)
    def post(self, request: Request, gateway: str) -> Response:  # noqa: ARG002
        """Refuse all its keys from the next call on; twice changes nothing."""
        self.body(NoBody)
        changed = gateways.disable_gateway(gateway_of(gateway).id, actor=self.actor, now=self.now)
        return Response(GatewayShape(changed).data)


class GatewayKeys(ManagementView):
    """The keys of one gateway."""

    scopes = {"GET": "gateways:read", "POST": "gateways:write"}

    @describe("List a gateway's keys", answer=GatewayKeyShape, page=True)
    def get(self, request: Request, gateway: str) -> Response:  # noqa: ARG002
        """List the keys of a gateway, newest first."""
        self.query()
        return self.page(gateway_of(gateway).keys.all(), GatewayKeyShape)

    @describe(
        "Issue a further key to a gateway",
        body=NewGatewayKey,
        answer=NewGatewayKeyShape,
        status=201,
    )
    def post(self, request: Request, gateway: str) -> Response:  # noqa: ARG002
        """Issue a further key."""
        found = gateway_of(gateway)
        key, made = keys.issue_gateway_key(
            found.id, **self.body(NewGatewayKey), actor=self.actor, now=self.now
        )
        return Response({**GatewayKeyShape(key).data, "key": made.text}, status=201)


class RotateGatewayKey(ManagementView):
    """Replace a key of a gateway."""

    scopes = {"POST": "gateways:write"}

    @describe("Rotate a gateway's key", body=Rotation, answer=NewGatewayKeyShape, status=201)
    def post(self, request: Request, gateway: str, key: str) -> Response:  # noqa: ARG002
        """Answer a new key; the old one works for `overlap_seconds` more."""
        asked = self.body(Rotation)
        old = _key_of(gateway, key)
        new, made = keys.rotate_gateway_key(old.id, **asked, actor=self.actor, now=self.now)
        return Response({**GatewayKeyShape(new).data, "key": made.text}, status=201)


class RevokeGatewayKey(ManagementView):
    """End a key of a gateway."""

    scopes = {"POST": "gateways:write"}

    @describe("Revoke a gateway's key", body=NoBody, answer=GatewayKeyShape)
    def post(self, request: Request, gateway: str, key: str) -> Response:  # noqa: ARG002
        """Refuse the key from the next call on; twice changes nothing."""
        self.body(NoBody)
        old = _key_of(gateway, key)
        revoked = keys.revoke_gateway_key(old.id, actor=self.actor, now=self.now)
        return Response(GatewayKeyShape(revoked).data)


def gateway_of(public_id: str) -> Gateway:
    """The gateway of an address; raises Http404."""
    gateway = gateway_by_reference(public_id)
    if gateway is None:
        raise Http404("There is no such gateway.")
    return gateway


def _key_of(gateway: str, key: str) -> GatewayKey:
    number = number_of(GatewayKey.PREFIX, key)
    found = GatewayKey.objects.filter(pk=number, gateway=gateway_of(gateway)).first()
    if found is None:
        raise Http404("There is no such key of this gateway.")
    return found


def _routes(asked: dict[str, Any]) -> list[Route]:
    return [Route(**route) for route in asked["routes"]]
