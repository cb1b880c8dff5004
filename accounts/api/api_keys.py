"""Customers' API keys: issue, list, rotate, revoke; and what a customer's own key may see."""

from __future__ import annotations

from typing import ClassVar

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.authentication import CallerKind
from accounts.api.customers import CustomerShape
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
from accounts.models import ApiKey, Customer
from accounts.operations import keys


class ApiKeyShape(serializers.Serializer[ApiKey]):
    """An API key as it is answered: never the key itself."""

    id = PublicIdField(ApiKey.PREFIX, source="pk")
    customer = CustomerField(source="customer_id")
    name = serializers.CharField()
    prefix = serializers.CharField()
    created_at = InstantField()
    expires_at = InstantField(allow_null=True)
    revoked_at = InstantField(allow_null=True)
    rotated_from = PublicIdField(ApiKey.PREFIX, source="rotated_from_id", allow_null=True)


class NewApiKeyShape(ApiKeyShape):
    """A new API key with `key`, which is shown this once."""

    key = serializers.CharField(help_text="Shown this once; only its digest is kept.")


class NewApiKey(StrictSerializer):
    """An API key to be issued."""

    customer = CustomerField()
    name = TextField(max_length=200)
    expires_at = InstantField(allow_null=True, required=False)


class Rotation(StrictSerializer):
    """How long the replaced key still works."""

    overlap_seconds = WholeField(least=0, most=keys.OVERLAP_MAX_S, required=False, default=0)


class ApiKeyQuery(StrictSerializer):
    """Whose keys to list."""

    customer = CustomerField(required=False)


class ApiKeys(ManagementView):
    """API keys of all customers."""

    scopes = {"GET": "customers:read", "POST": "keys:write"}

    @describe("List API keys", answer=ApiKeyShape, query=ApiKeyQuery, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List API keys, newest first."""
        return self.page(ApiKey.objects.filter(**self.query(ApiKeyQuery)), ApiKeyShape)

    @describe("Issue an API key", body=NewApiKey, answer=NewApiKeyShape, status=201)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Issue a key to a customer; it works from the next call on. Not to an erased one (409)."""
        asked = self.body(NewApiKey)
        customer = asked.pop("customer")
        key, made = keys.issue_api_key(customer.id, **asked, actor=self.actor, now=self.now)
        return Response({**ApiKeyShape(key).data, "key": made.text}, status=201)


class OneApiKey(ManagementView):
    """One API key."""

    scopes = {"GET": "customers:read"}

    @describe("See an API key", answer=ApiKeyShape)
    def get(self, request: Request, key: str) -> Response:  # noqa: ARG002
        """See a key: its prefix, its times, never itself."""
        self.query()
        found = ApiKey.objects.filter(pk=number_of(ApiKey.PREFIX, key)).first()
        if found is None:
            raise Http404("There is no such key.")
        return Response(ApiKeyShape(found).data)


class RotateApiKey(ManagementView):
    """Replace a key by a new one."""

    scopes = {"POST": "keys:write"}

    @describe("Rotate an API key", body=Rotation, answer=NewApiKeyShape, status=201)
    def post(self, request: Request, key: str) -> Response:  # noqa: ARG002
        """Answer a new key; the old one works for `overlap_seconds` more."""
        asked = self.body(Rotation)
        new, made = keys.rotate_api_key(
            number_of(ApiKey.PREFIX, key), **asked, actor=self.actor, now=self.now
        )
        return Response({**ApiKeyShape(new).data, "key": made.text}, status=201)


class RevokeApiKey(ManagementView):
    """End a key at once."""

    scopes = {"POST": "keys:write"}

    @describe("Revoke an API key", body=NoBody, answer=ApiKeyShape)
    def post(self, request: Request, key: str) -> Response:  # noqa: ARG002
        """Refuse the key from the next call on; twice changes nothing."""
        self.body(NoBody)
        found = keys.revoke_api_key(number_of(ApiKey.PREFIX, key), actor=self.actor, now=self.now)
        return Response(ApiKeyShape(found).data)


class Me(ManagementView):
    """The customer whose key this is."""

    callers: ClassVar[frozenset[CallerKind]] = frozenset({"customer"})

    @describe("See the customer of this key", answer=CustomerShape)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """See the customer of this key."""
        self.query()
        return Response(CustomerShape(Customer.objects.get(pk=self.customer_id)).data)


class MyApiKeys(ManagementView):
    """The customer's own API keys."""

    callers: ClassVar[frozenset[CallerKind]] = frozenset({"customer"})

    @describe("List this customer's API keys", answer=ApiKeyShape, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List the keys of the customer whose key this is."""
        self.query()
        return self.page(ApiKey.objects.filter(customer_id=self.customer_id), ApiKeyShape)


class MyApiKey(ManagementView):
    """One of the customer's own API keys."""

    callers: ClassVar[frozenset[CallerKind]] = frozenset({"customer"})

    @describe("See one of this customer's API keys", answer=ApiKeyShape)
    def get(self, request: Request, key: str) -> Response:  # noqa: ARG002
        """See one key of the customer whose key this is; others' do not exist."""
        self.query()
        found = ApiKey.objects.filter(
            customer_id=self.customer_id, pk=number_of(ApiKey.PREFIX, key)
        ).first()
        if found is None:
            raise Http404("There is no such key.")
        return Response(ApiKeyShape(found).data)
