"""Overrides: what one customer gets otherwise than its plan says."""

from __future__ import annotations

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.customers import customer_of
from accounts.api.describing import describe
from accounts.api.fields import (
    CustomerField,
    FlagField,
    InstantField,
    KeyField,
    PublicIdField,
    TextField,
    WholeField,
)
from accounts.api.serializing import StrictSerializer
from accounts.api.views import ManagementView, number_of
from billing.api.fields import TextOrNull
from billing.api.plan_shapes import PriceBody
from billing.models import Override
from billing.operations import overriding
from billing.operations.plan_shapes import WINDOWS
from billing.queries.customer_terms import overrides


class OverrideShape(serializers.Serializer[Override]):
    """An override as it is answered; it holds in `[starts_at, ends_at)`."""

    id = PublicIdField(Override.PREFIX, source="pk")
    customer = CustomerField(source="customer_id")
    meter = TextOrNull(lambda override: override.meter.key if override.meter else None)
    feature = TextOrNull(lambda override: override.feature)
    denied = serializers.BooleanField()
    terms = serializers.DictField()
    reason = serializers.CharField()
    starts_at = InstantField()
    ends_at = InstantField(allow_null=True)
    created_at = InstantField()


class NewOverride(StrictSerializer):
    """A meter with the members of a plan's entitlement that are otherwise, or a feature."""

    meter = KeyField(required=False)
    feature = KeyField(required=False)
    value = TextField(max_length=500, required=False)
    denied = FlagField(required=False)
    included = WholeField(required=False)
    unlimited = FlagField(required=False)
    window = serializers.ChoiceField(WINDOWS, required=False)
    rollover = WholeField(required=False)
    over = serializers.ChoiceField(("deny", "bill"), required=False)
    overage_limit = WholeField(required=False, allow_null=True)
    price = PriceBody(required=False)
    starts_at = InstantField(required=False, allow_null=True)
    ends_at = InstantField(required=False, allow_null=True)
    reason = TextField(max_length=200, allow_blank=True, required=False)


class EndOverride(StrictSerializer):
    """When it ends; null or nothing: now."""

    ends_at = InstantField(required=False, allow_null=True)


class OverridesOfCustomer(ManagementView):
    """What one customer gets otherwise."""

    scopes = {"GET": "subscriptions:read", "POST": "subscriptions:write"}

    @describe("List a customer's overrides", answer=OverrideShape, page=True)
    def get(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """List them, newest first, those that are over or to come included."""
        self.query()
        return self.page(overrides(customer_of(reference).pk), OverrideShape)

    @describe("Agree on an override", body=NewOverride, answer=OverrideShape, status=201)
    def post(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """Give a customer a right otherwise than its plan does; the next check knows it."""
        customer, asked = customer_of(reference), self.body(NewOverride)
        about = {
            name: asked.pop(name) for name in ("starts_at", "ends_at", "reason") if name in asked
        }
        made = overriding.override(
            customer.pk, terms=asked, **about, actor=self.actor, now=self.now
        )
        return Response(OverrideShape(made).data, status=201)


class OneOverride(ManagementView):
    """One override."""

    scopes = {"GET": "subscriptions:read"}

    @describe("See an override", answer=OverrideShape)
    def get(self, request: Request, reference: str, override: str) -> Response:  # noqa: ARG002
        """See an override of the customer."""
        self.query()
        number = number_of(Override.PREFIX, override)
        found = overrides(customer_of(reference).pk).filter(pk=number).first()
        if found is None:
            raise Http404("The customer has no such override.")
        return Response(OverrideShape(found).data)


class EndOverrideOfCustomer(ManagementView):
    """The end of an override."""

    scopes = {"POST": "subscriptions:write"}

    @describe("End an override", body=EndOverride, answer=OverrideShape)
    def post(self, request: Request, reference: str, override: str) -> Response:  # noqa: ARG002
        """Let it end now or at a time to come; the plan's terms hold from then on."""
        ended = overriding.end_override(
            customer_of(reference).pk,
            override_id=number_of(Override.PREFIX, override),
            ends_at=self.body(EndOverride).get("ends_at"),
            actor=self.actor,
            now=self.now,
        )
        return Response(OverrideShape(ended).data)
