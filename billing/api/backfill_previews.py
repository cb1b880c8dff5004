"""What a backfill would change, before it is closed."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import CustomerField
from accounts.api.serializing import StrictSerializer
from accounts.api.views import ManagementView, number_of
from accounts.domain import ids
from accounts.models import Customer
from billing.domain.invoices import InvoiceDraft
from billing.operations.foreseeing import Foreseen, foresee
from metering.models import Backfill
from metering.operations.backfilling import CUSTOMERS_MAX


class ForeseenUsageShape(serializers.Serializer[Any]):
    """A meter's usage in the backfill's range."""

    meter = serializers.CharField()
    before = serializers.IntegerField()
    after = serializers.IntegerField()


class ForeseenInvoiceShape(serializers.Serializer[Any]):
    """The invoice of the period under way; amounts in minor units."""

    currency = serializers.CharField()
    before = serializers.IntegerField()
    after = serializers.IntegerField()


class ForeseenAdjustmentShape(serializers.Serializer[Any]):
    """A period that was invoiced: what the next invoice puts right for it."""

    invoice = serializers.CharField()
    number = serializers.CharField(allow_null=True)
    meter = serializers.CharField(
        allow_null=True, help_text="Null: what coupons make of the others."
    )
    currency = serializers.CharField()
    amount = serializers.IntegerField()


class ForeseenCustomerShape(serializers.Serializer[Any]):
    """What changes for one customer."""

    customer = CustomerField()
    events = serializers.IntegerField(help_text="How many would be looked at.")
    usage = ForeseenUsageShape(many=True)
    open_period = ForeseenInvoiceShape(allow_null=True)
    closed_periods = ForeseenAdjustmentShape(many=True)


class BackfillPreviewShape(serializers.Serializer[Any]):
    """What closing the backfill would change."""

    customers = ForeseenCustomerShape(many=True)


class PreviewAsked(StrictSerializer):
    """Whom to look at."""

    customers = serializers.ListField(
        child=CustomerField(),
        required=False,
        min_length=1,
        max_length=CUSTOMERS_MAX,
        help_text="Of these of its customers alone. Unless told, of all of them.",
    )


class BackfillPreview(ManagementView):
    """What a backfill would change."""

    scopes = {"POST": "events:write"}

    @describe("Preview a backfill", body=PreviewAsked, answer=BackfillPreviewShape)
    def post(self, request: Request, backfill: str) -> Response:  # noqa: ARG002
        """See what closing an open backfill would change: usage, the next invoice, earlier ones.

        It is tried out on copies, of up to 5,000 events of a customer, which takes as long as
        closing it; `customers` tells some of its customers by themselves.
        """
        asked = self.body(PreviewAsked).get("customers")
        found = foresee(
            number_of(Backfill.PREFIX, backfill),
            customer_ids=None if asked is None else [each.id for each in asked],
            now=self.now,
        )
        return Response({"customers": [_body(each) for each in found]})


def _body(foreseen: Foreseen) -> dict[str, Any]:
    return {
        "customer": ids.encode(Customer.PREFIX, foreseen.customer_id),
        "events": foreseen.events,
        "usage": [
            {"meter": each.meter.key, "before": each.before, "after": each.after}
            for each in foreseen.usage
        ],
        "open_period": _open_period(foreseen.before, foreseen.after),
        "closed_periods": [
            {
                "invoice": each.invoice.public_id,
                "number": each.invoice.number,
                "meter": each.meter or None,
                "currency": each.currency,
                "amount": each.amount,
            }
            for each in foreseen.closed
        ],
    }


def _open_period(before: InvoiceDraft | None, after: InvoiceDraft | None) -> dict[str, Any] | None:
    if before is None or after is None:
        return None
    return {"currency": after.currency, "before": before.total, "after": after.total}
