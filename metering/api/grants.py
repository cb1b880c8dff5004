"""Grants: give, void, list."""

from __future__ import annotations

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import (
    CustomerField,
    InstantField,
    PublicIdField,
    TextField,
    WholeField,
)
from accounts.api.serializing import NoBody, StrictSerializer
from accounts.api.views import ManagementView, number_of
from metering.api.fields import MeterField
from metering.models import Grant
from metering.operations import granting


class GrantShape(serializers.Serializer[Grant]):
    """A grant as it is answered. Quantities in the meter's unit."""

    id = PublicIdField(Grant.PREFIX)
    customer = CustomerField(source="customer_id")
    meter = MeterField()
    quantity = serializers.IntegerField()
    used = serializers.IntegerField()
    held = serializers.IntegerField()
    priority = serializers.IntegerField()
    effective_at = InstantField()
    expires_at = InstantField(allow_null=True)
    voided_at = InstantField(allow_null=True)
    reason = serializers.CharField()
    created_at = InstantField()


class NewGrant(StrictSerializer):
    """Quantity to be given; lower priorities are burned first."""

    customer = CustomerField()
    meter = MeterField()
    quantity = WholeField(least=1)
    priority = WholeField(least=-32_767, most=32_767, required=False)
    effective_at = InstantField(required=False, allow_null=True)
    expires_at = InstantField(required=False, allow_null=True)
    reason = TextField(max_length=200, allow_blank=True, required=False)


class GrantQuery(StrictSerializer):
    """Whose grants to list."""

    customer = CustomerField()
    meter = MeterField(required=False)


class Grants(ManagementView):
    """Grants of a customer."""

    scopes = {"GET": "customers:read", "POST": "grants:write"}

    @describe("List grants", answer=GrantShape, query=GrantQuery, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List a customer's grants, newest first, voided and expired ones included."""
        found = Grant.objects.filter(**self.query(GrantQuery)).select_related("meter")
        return self.page(found, GrantShape)

    @describe("Give a grant", body=NewGrant, answer=GrantShape, status=201)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Give a customer quantity beside its plan; the next check finds it."""
        asked = self.body(NewGrant)
        customer, meter = asked.pop("customer"), asked.pop("meter")
        given = granting.grant(
            customer.id, meter_id=meter.id, **asked, actor=self.actor, now=self.now
        )
        return Response(GrantShape(given).data, status=201)


class VoidGrant(ManagementView):
    """Take back what is left of a grant."""

    scopes = {"POST": "grants:write"}

    @describe("Void a grant", body=NoBody, answer=GrantShape)
    def post(self, request: Request, grant: str) -> Response:  # noqa: ARG002
        """Take back what is left; what was used of it stays. Twice changes nothing."""
        self.body(NoBody)
        found = Grant.objects.filter(id=number_of(Grant.PREFIX, grant)).first()
        if found is None:
            raise Http404("There is no such grant.")
        voided = granting.void_grant(
            found.customer_id, grant_id=found.id, actor=self.actor, now=self.now
        )
        return Response(GrantShape(voided).data)
