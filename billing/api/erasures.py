"""Erasing a customer's data on request."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.customers import customer_of
from accounts.api.describing import describe
from accounts.api.fields import TextField
from accounts.api.serializing import StrictSerializer
from accounts.api.views import ManagementView
from billing.operations.erasing import Erased, erase_customer


class Erasure(StrictSerializer):
    """Why, and which dimensions of usage say nothing about anybody."""

    reason = TextField(max_length=500)
    keep_dimensions = serializers.ListField(
        child=TextField(max_length=100), max_length=20, required=False, default=list
    )


class ErasedShape(serializers.Serializer[Erased]):
    """The id, which stays, and how many events have pseudonyms now."""

    customer = serializers.CharField()
    events = serializers.IntegerField()


class EraseCustomer(ManagementView):
    """Forget who a customer is."""

    scopes = {"POST": "admin"}

    @describe("Erase a customer's data", body=Erasure, answer=ErasedShape)
    def post(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """Take out who the customer and its users are; what was used, owed and paid stays."""
        asked = self.body(Erasure)
        erased = erase_customer(
            customer_of(reference).id,
            kept_dimensions=asked["keep_dimensions"],
            reason=asked["reason"],
            actor=self.actor,
            now=self.now,
        )
        return Response(ErasedShape(erased).data)
