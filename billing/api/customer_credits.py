"""Credits: money that coming invoices need not cost."""

from __future__ import annotations

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import CustomerField, InstantField, PublicIdField, TextField, WholeField
from accounts.api.serializing import NoBody, StrictSerializer
from accounts.api.views import ManagementView, number_of
from billing.models import Credit
from billing.operations import customer_credits
from billing.operations.customer_credits import PRIORITY_MAX
from billing.operations.plan_shapes import AMOUNT_MAX
from billing.queries.credits import credits_of


class CreditShape(serializers.Serializer[Credit]):
    """A credit as it is answered, in minor units: `left` = `amount` - `used` - `expired`."""

    id = PublicIdField(Credit.PREFIX, source="pk")
    customer = CustomerField(source="customer_id")
    currency = serializers.CharField()
    kind = serializers.ChoiceField(Credit.Kind.values)
    amount = serializers.IntegerField()
    used = serializers.IntegerField()
    expired = serializers.IntegerField()
    left = serializers.IntegerField()
    priority = serializers.IntegerField()
    reason = serializers.CharField()
    granted_at = InstantField()
    expires_at = InstantField(allow_null=True)


class NewCredit(StrictSerializer):
    """Credit for a customer, in minor units of its currency."""

    customer = CustomerField()
    amount = WholeField(least=1, most=AMOUNT_MAX)
    kind = serializers.ChoiceField(Credit.Kind.values, required=False)
    priority = WholeField(most=PRIORITY_MAX, required=False, allow_null=True)
    expires_at = InstantField(required=False, allow_null=True)
    reason = TextField(max_length=500, allow_blank=True, required=False)


class CreditQuery(StrictSerializer):
    """Whose credits to list."""

    customer = CustomerField(required=False)


class Credits(ManagementView):
    """All credits."""

    scopes = {"GET": "invoices:read", "POST": "invoices:write"}

    @describe("List credits", answer=CreditShape, query=CreditQuery, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List them, newest first, those that are used up or expired included."""
        customer = self.query(CreditQuery).get("customer")
        return self.page(credits_of(None if customer is None else customer.pk), CreditShape)

    @describe("Grant credit", body=NewCredit, answer=CreditShape, status=201)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Give a customer credit; the next invoice that is issued uses it."""
        asked = self.body(NewCredit)
        customer = asked.pop("customer")
        made = customer_credits.grant_credit(customer.pk, **asked, actor=self.actor, now=self.now)
        return Response(CreditShape(made).data, status=201)


class OneCredit(ManagementView):
    """One credit."""

    scopes = {"GET": "invoices:read"}

    @describe("See a credit", answer=CreditShape)
    def get(self, request: Request, credit: str) -> Response:  # noqa: ARG002
        """See a credit and what is left of it."""
        self.query()
        found = credits_of().filter(pk=number_of(Credit.PREFIX, credit)).first()
        if found is None:
            raise Http404("There is no such credit.")
        return Response(CreditShape(found).data)


class EndCredit(ManagementView):
    """The end of a credit."""

    scopes = {"POST": "invoices:write"}

    @describe("End a credit", body=NoBody, answer=CreditShape)
    def post(self, request: Request, credit: str) -> Response:  # noqa: ARG002
        """Let what is left of it expire at once."""
        self.body(NoBody)
        number = number_of(Credit.PREFIX, credit)
        ended = customer_credits.end_credit(number, actor=self.actor, now=self.now)
        return Response(CreditShape(ended).data)
