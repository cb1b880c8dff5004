"""All that is known of a customer at a moment."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.authentication import CallerKind
from accounts.api.customers import customer_of
from accounts.api.describing import describe
from accounts.api.views import ManagementView
from accounts.models import Customer
from billing.queries.customer_states import customer_state


class StateShape(serializers.Serializer[dict[str, Any]]):
    """The state of a customer, read at `at`; what does not exist is null or an empty list."""

    customer = serializers.DictField()
    subscription = serializers.DictField(allow_null=True)
    plan = serializers.DictField(allow_null=True)
    standing = serializers.DictField()
    entitlements = serializers.ListField(child=serializers.DictField())
    wallets = serializers.ListField(child=serializers.DictField())
    credits = serializers.ListField(child=serializers.DictField())
    payment_method = serializers.DictField(allow_null=True)
    open_invoices = serializers.ListField(child=serializers.DictField())
    next_invoice = serializers.DictField(allow_null=True)
    forecast = serializers.ListField(child=serializers.DictField())
    at = serializers.DateTimeField()


class CustomerState(ManagementView):
    """The state of one customer."""

    scopes = {"GET": "customers:read"}

    @describe("See a customer's state", answer=StateShape)
    def get(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """See plan, standing, balances, wallets, invoices and forecast of a customer."""
        self.query()
        return Response(customer_state(customer_of(reference), now=self.now))


class MyState(ManagementView):
    """The state of the customer whose key this is."""

    callers: ClassVar[frozenset[CallerKind]] = frozenset({"customer"})

    @describe("See this customer's state", answer=StateShape)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """See plan, standing, balances, wallets, invoices and forecast."""
        self.query()
        customer = Customer.objects.get(pk=self.customer_id)
        return Response(customer_state(customer, now=self.now))
