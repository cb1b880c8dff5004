"""Spend limits: how much usage past what is included may cost a customer in a billing period."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.authentication import CallerKind
from accounts.api.customers import customer_of
from accounts.api.describing import describe
from accounts.api.fields import InstantField, WholeField
from accounts.api.serializing import NoBody, StrictSerializer
from accounts.api.views import ManagementView
from accounts.models import Customer
from billing.operations.limiting import (
    LIMIT_MAX,
    set_spend_limit,
    tighten_spend_limit,
)
from billing.queries.spend_limits import SpendLimitView, spend_limit_view


class AdmittedShape(serializers.Serializer[Any]):
    """What a billed meter would still admit now, by itself; `quantity` null: any quantity."""

    meter = serializers.CharField()
    quantity = serializers.IntegerField(allow_null=True)


class SpendLimitShape(serializers.Serializer[SpendLimitView]):
    """Both limits, in minor units of `currency` per billing period; `limit` is the one that counts.

    `spent`: what usage past the included one has cost in the period so far, open holds included;
    null where nothing can be spent.
    """

    currency = serializers.CharField()
    limit = serializers.IntegerField(source="cap", allow_null=True)
    set_by = serializers.ChoiceField(("customer", "operator"), allow_null=True)
    set_by_customer = serializers.IntegerField(source="customer", allow_null=True)
    set_by_operator = serializers.IntegerField(source="operator", allow_null=True)
    spent = serializers.IntegerField(allow_null=True)
    remaining = serializers.IntegerField(allow_null=True)
    resets_at = InstantField(allow_null=True)
    admits = AdmittedShape(many=True)


class NewSpendLimit(StrictSerializer):
    """The limit, in minor units of the customer's currency per billing period."""

    amount = WholeField(most=LIMIT_MAX)


class _LimitsSpending(ManagementView):
    def _shown(self, customer: Customer) -> Response:
        found = spend_limit_view(customer.pk, currency=customer.currency, now=self.now)
        return Response(SpendLimitShape(found).data)


class SpendLimitOfCustomer(_LimitsSpending):
    """The operator's limit on one customer."""

    scopes = {
        "GET": "customers:read",
        "PUT": "subscriptions:write",
        "DELETE": "subscriptions:write",
    }

    @describe("See a customer's spend limit", answer=SpendLimitShape)
    def get(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """See both limits, what is spent, and what quantities that leaves."""
        self.query()
        return self._shown(customer_of(reference))

    @describe("Limit a customer's spending", body=NewSpendLimit, answer=SpendLimitShape)
    def put(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """Set the operator's limit; the next check keeps to the lower of the two."""
        return self._set(customer_of(reference), self.body(NewSpendLimit)["amount"])

    @describe("Remove the operator's spend limit", body=NoBody, answer=SpendLimitShape)
    def delete(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """Remove it; the customer's own one stays."""
        return self._set(customer_of(reference), None)

    def _set(self, customer: Customer, amount: int | None) -> Response:
        set_spend_limit(
            customer.pk, amount=amount, set_by="operator", actor=self.actor, now=self.now
        )
        return self._shown(customer)


class MySpendLimit(_LimitsSpending):
    """The customer's own limit."""

    callers: ClassVar[frozenset[CallerKind]] = frozenset({"customer"})

    @describe("See this customer's spend limit", answer=SpendLimitShape)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """See both limits, what is spent, and what quantities that leaves."""
        self.query()
        return self._shown(self._own())

    @describe("Limit one's own spending", body=NewSpendLimit, answer=SpendLimitShape)
    def put(self, request: Request) -> Response:  # noqa: ARG002
        """Set one's own limit, or lower it; raising and removing it takes a person, in the portal.

        The next check keeps to the lower of the two.
        """
        own, amount = self._own(), self.body(NewSpendLimit)["amount"]
        tighten_spend_limit(own.pk, amount=amount, actor=self.actor, now=self.now)
        return self._shown(own)

    def _own(self) -> Customer:
        return Customer.objects.get(pk=self.customer_id)
