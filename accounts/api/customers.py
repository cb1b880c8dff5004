"""Customers: create, list, see, change, suspend, resume."""

from __future__ import annotations

from typing import Any, cast

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import (
    CurrencyField,
    InstantField,
    MetadataField,
    PublicIdField,
    TextField,
)
from accounts.api.serializing import NoBody, StrictSerializer
from accounts.api.views import ManagementView
from accounts.models import Customer
from accounts.operations import customers
from accounts.queries import EXTERNAL_ID_MAX, customer_by_reference


class EmailText(serializers.EmailField, TextField):
    """An e-mail address, or an empty text where there is none."""


class CustomerShape(serializers.Serializer[Customer]):
    """A customer as it is answered."""

    id = PublicIdField(Customer.PREFIX, source="pk")
    external_id = serializers.CharField(allow_null=True)
    name = serializers.CharField()
    email = serializers.CharField()
    currency = serializers.CharField()
    metadata = MetadataField()
    created_at = InstantField()
    suspended_at = InstantField(allow_null=True)


class NewCustomer(StrictSerializer):
    """A customer to be created."""

    name = TextField(max_length=200)
    external_id = TextField(max_length=EXTERNAL_ID_MAX, allow_null=True, required=False)
    email = EmailText(allow_blank=True, required=False)
    currency = CurrencyField(required=False)
    metadata = MetadataField(required=False)


class CustomerChange(StrictSerializer):
    """What may be changed; the currency only until something is sold in it."""

    name = TextField(max_length=200, required=False)
    external_id = TextField(max_length=EXTERNAL_ID_MAX, allow_null=True, required=False)
    email = EmailText(allow_blank=True, required=False)
    currency = CurrencyField(required=False)
    metadata = MetadataField(required=False)


class Suspension(StrictSerializer):
    """Why a customer is suspended, for the audit."""

    reason = TextField(max_length=500, allow_blank=True, required=False, default="")


class CustomerQuery(StrictSerializer):
    """Which customers to list."""

    external_id = TextField(required=False)
    email = TextField(required=False)


class Customers(ManagementView):
    """All customers."""

    scopes = {"GET": "customers:read", "POST": "customers:write"}

    @describe("List customers", answer=CustomerShape, query=CustomerQuery, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List customers, newest first."""
        return self.page(Customer.objects.filter(**self.query(CustomerQuery)), CustomerShape)

    @describe("Create a customer", body=NewCustomer, answer=CustomerShape, status=201)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Create a customer."""
        asked: dict[str, Any] = self.body(NewCustomer)
        customer = customers.create_customer(**asked, actor=self.actor, now=self.now)
        return Response(CustomerShape(customer).data, status=201)


class OneCustomer(ManagementView):
    """One customer, by `cus_…` or external id."""

    scopes = {"GET": "customers:read", "PATCH": "customers:write"}

    @describe("See a customer", answer=CustomerShape)
    def get(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """See a customer."""
        self.query()
        return Response(CustomerShape(customer_of(reference)).data)

    @describe("Change a customer", body=CustomerChange, answer=CustomerShape)
    def patch(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """Change some members of a customer; the others stay."""
        customer = customer_of(reference)
        asked = cast("customers.CustomerChanges", self.body(CustomerChange))
        changed = customers.change_customer(
            customer.id, changes=asked, actor=self.actor, now=self.now
        )
        return Response(CustomerShape(changed).data)


class SuspendCustomer(ManagementView):
    """Deny every check of a customer from the next call on."""

    scopes = {"POST": "customers:write"}

    @describe("Suspend a customer", body=Suspension, answer=CustomerShape)
    def post(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """Suspend; twice changes nothing."""
        asked = self.body(Suspension)
        customer = customers.suspend_customer(
            customer_of(reference).id, reason=asked["reason"], actor=self.actor, now=self.now
        )
        return Response(CustomerShape(customer).data)


class ResumeCustomer(ManagementView):
    """Undo a suspension."""

    scopes = {"POST": "customers:write"}

    @describe("Resume a customer", body=NoBody, answer=CustomerShape)
    def post(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """Resume; twice changes nothing. Whoever was erased is not resumed (409)."""
        self.body(NoBody)
        customer = customers.resume_customer(
            customer_of(reference).id, actor=self.actor, now=self.now
        )
        return Response(CustomerShape(customer).data)


def customer_of(reference: str) -> Customer:
    """The customer of an address; raises Http404."""
    customer = customer_by_reference(reference)
    if customer is None:
        raise Http404("There is no such customer.")
    return customer
