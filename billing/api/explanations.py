"""How an invoice comes about: every line computed again."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import PublicIdField
from accounts.api.views import ManagementView
from billing.api.invoices import TaxShape, invoice_of
from billing.models import Invoice, InvoiceLine
from billing.queries.explanations import ExplainedLine, Explanation, explained


class ExplainedLineShape(serializers.Serializer[ExplainedLine]):
    """A line with its sums, in minor units; `counted` is what the events say today."""

    id = PublicIdField(InvoiceLine.PREFIX, source="line.pk")
    kind = serializers.CharField(source="line.kind")
    description = serializers.CharField(source="line.description")
    amount = serializers.IntegerField(source="line.amount")
    recomputed = serializers.IntegerField(allow_null=True)
    sums = serializers.ListField(child=serializers.CharField())
    used = serializers.IntegerField(allow_null=True)
    events = serializers.IntegerField(source="counted.events", default=None, allow_null=True)
    counted = serializers.IntegerField(source="counted.quantity", default=None, allow_null=True)
    changed = serializers.BooleanField()


class ExplanationShape(serializers.Serializer[Explanation]):
    """`holds`: every line follows from its details, and the total from the lines; `taxes` are as
    Stripe computed them."""

    invoice = PublicIdField(Invoice.PREFIX, source="invoice.pk")
    currency = serializers.CharField(source="invoice.currency")
    total = serializers.IntegerField()
    taxes = TaxShape(source="invoice.taxes", many=True)
    total_with_tax = serializers.IntegerField(source="invoice.total_with_tax")
    holds = serializers.BooleanField()
    lines = ExplainedLineShape(many=True)


class InvoiceExplanation(ManagementView):
    """One invoice, computed again."""

    scopes = {"GET": "invoices:read"}

    @describe("Explain an invoice", answer=ExplanationShape)
    def get(self, request: Request, invoice: str) -> Response:  # noqa: ARG002
        """Compute an invoice again from its details and from the events, with the sums."""
        self.query()
        return Response(ExplanationShape(explained(invoice_of(invoice))).data)
