"""Visits to Stripe Checkout, begun by the operator for a customer."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import CustomerField, InstantField, PublicIdField, TextField
from accounts.api.serializing import StrictSerializer
from accounts.api.views import ManagementView, number_of
from billing.api.fields import TextOrNull
from billing.models import CheckoutSession
from billing.operations.checkout import begin_checkout
from billing.payments.checkout import open_checkout
from billing.payments.returning import return_address


class AddressField(TextField):
    """An http or https address."""

    default_error_messages = {"address": "This must be an http or https address."}

    def to_internal_value(self, data: Any) -> str:
        """Refuse what a browser could not be sent to."""
        text = super().to_internal_value(data)
        if not re.fullmatch(r"https?://[!-~]+", text):
            self.fail("address")
        return text


class CheckoutSessionShape(serializers.Serializer[CheckoutSession]):
    """A visit as it is answered; the customer is sent to `url`."""

    id = PublicIdField(CheckoutSession.PREFIX, source="pk")
    customer = CustomerField(source="customer_id")
    plan = TextOrNull(lambda each: each.version.plan.key if each.version else None)
    status = serializers.ChoiceField(CheckoutSession.Status.values)
    url = serializers.CharField()
    created_at = InstantField()
    completed_at = InstantField(allow_null=True)


class NewCheckoutSession(StrictSerializer):
    """Whom to send, to which plan (null: only a payment method), and where back to."""

    customer = CustomerField()
    plan = TextField(max_length=100, allow_null=True, required=False, default=None)
    success_url = AddressField(max_length=2_000, required=False)
    cancel_url = AddressField(max_length=2_000, required=False)


class CheckoutSessions(ManagementView):
    """All visits."""

    scopes = {"GET": "subscriptions:read", "POST": "subscriptions:write"}
    # Stripe is called between two commits; a repeat finds the visit that is open.
    one_transaction = False

    @describe("List visits to Checkout", answer=CheckoutSessionShape, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List visits, newest first."""
        self.query()
        found = CheckoutSession.objects.select_related("version__plan")
        return self.page(found, CheckoutSessionShape)

    @describe(
        "Begin a visit to Checkout",
        body=NewCheckoutSession,
        answer=CheckoutSessionShape,
        status=201,
    )
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Answer the address of the page on which the customer gives a payment method."""
        asked = self.body(NewCheckoutSession)
        session = begin_checkout(
            asked["customer"].id, plan=asked["plan"], actor=self.actor, now=self.now
        )
        open_checkout(
            session,
            success_url=asked.get("success_url") or return_address(session),
            cancel_url=asked.get("cancel_url") or f"{settings.BASE_URL}/portal",
            now=self.now,
        )
        return Response(CheckoutSessionShape(session).data, status=201)


class OneCheckoutSession(ManagementView):
    """One visit."""

    scopes = {"GET": "subscriptions:read"}

    @describe("See a visit to Checkout", answer=CheckoutSessionShape)
    def get(self, request: Request, session: str) -> Response:  # noqa: ARG002
        """See a visit: whether it was completed."""
        self.query()
        number = number_of(CheckoutSession.PREFIX, session)
        found = CheckoutSession.objects.select_related("version__plan").filter(pk=number).first()
        if found is None:
            raise Http404("There is no such visit to Checkout.")
        return Response(CheckoutSessionShape(found).data)
