"""Billing details: who a customer's invoices are made out to."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.authentication import CallerKind
from accounts.api.customers import customer_of
from accounts.api.describing import describe
from accounts.api.fields import TextField
from accounts.api.serializing import StrictSerializer
from accounts.api.views import ManagementView
from billing.models import BillingDetails
from billing.operations.billing_details import MOST, set_billing_details
from billing.queries.parties import DETAIL_FIELDS, billing_details


class BillingDetailsShape(serializers.Serializer[Any]):
    """All details; what was not given is empty."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """One text each."""
        fields: dict[str, serializers.Field[Any, Any, Any, Any]] = {
            field: serializers.CharField(allow_blank=True) for field in DETAIL_FIELDS
        }
        return fields | {"tax_exempt": serializers.ChoiceField(BillingDetails.TaxExempt.values)}


class NewBillingDetails(StrictSerializer):
    """The details that are to be set; the others stay. `country` is ISO 3166, such as `DE`."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """One text each."""
        return {
            field: TextField(max_length=MOST[field], allow_blank=True, required=False)
            for field in DETAIL_FIELDS
        }


class NewDetailsOfCustomer(NewBillingDetails):
    """What an operator sets: `tax_exempt` too, as Stripe Tax takes it."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """The texts, and whether the customer is taxed."""
        exempt = serializers.ChoiceField(BillingDetails.TaxExempt.values, required=False)
        return super().get_fields() | {"tax_exempt": exempt}


class BillingDetailsOfCustomer(ManagementView):
    """A customer's billing details."""

    scopes = {"GET": "customers:read", "PATCH": "customers:write"}

    @describe("See a customer's billing details", answer=BillingDetailsShape)
    def get(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """See who invoices are made out to."""
        self.query()
        return Response(billing_details(customer_of(reference).id))

    @describe("Set billing details", body=NewDetailsOfCustomer, answer=BillingDetailsShape)
    def patch(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """Set who the invoices from now on are made out to."""
        customer, asked = customer_of(reference), self.body(NewDetailsOfCustomer)
        exempt = asked.pop("tax_exempt", None)
        after = set_billing_details(
            customer.id, details=asked, tax_exempt=exempt, actor=self.actor, now=self.now
        )
        return Response(after)


class MyBillingDetails(ManagementView):
    """The customer's own."""

    callers: ClassVar[frozenset[CallerKind]] = frozenset({"customer"})

    @describe("See one's own billing details", answer=BillingDetailsShape)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """See who invoices are made out to."""
        self.query()
        return Response(billing_details(self.customer_id))

    @describe("Set one's own billing details", body=NewBillingDetails, answer=BillingDetailsShape)
    def patch(self, request: Request) -> Response:  # noqa: ARG002
        """Set who the invoices from now on are made out to."""
        asked = self.body(NewBillingDetails)
        after = set_billing_details(self.customer_id, details=asked, actor=self.actor, now=self.now)
        return Response(after)
