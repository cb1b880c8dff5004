"""The complete fate of a usage event: from what it counted as to the line that charges it."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.views import ManagementView
from accounts.domain import ids
from billing.queries.event_fates import BilledFate, billed_fate
from metering.api.events import EventShape, FateShape, MeterFateShape, fate_body
from metering.models import UsageEvent
from metering.queries.events import event_fate


class ChargedShape(serializers.Serializer[Any]):
    """The line that holds the event's usage, and where that is at Stripe."""

    invoice = serializers.CharField()
    number = serializers.CharField(allow_null=True)
    status = serializers.CharField()
    line = serializers.CharField()
    quantity = serializers.IntegerField(allow_null=True)
    amount = serializers.IntegerField()
    currency = serializers.CharField()
    stripe_invoice = serializers.CharField(allow_null=True)
    stripe_line = serializers.CharField(allow_null=True)


class BilledMeterShape(MeterFateShape):
    """What became of an event on one meter, to the end; `stopped` says why it is no further."""

    charged = ChargedShape(allow_null=True)
    stopped = serializers.CharField(allow_null=True)


class WholeFateShape(FateShape):
    """How far an event came."""

    meters = BilledMeterShape(many=True)


class EventWholeFateShape(EventShape):
    """An event and its complete fate."""

    fate = WholeFateShape()


class EventWholeFate(ManagementView):
    """The complete fate of one usage event."""

    scopes = {"GET": "events:read"}

    @describe("See an event's fate up to its invoice line", answer=EventWholeFateShape)
    def get(self, request: Request, event: str) -> Response:  # noqa: ARG002
        """See buckets, balances, hold, invoice line and Stripe line of an event."""
        self.query()
        customer_id, key = ids.decode_owned(UsageEvent.PREFIX, event)
        fate = event_fate(customer_id, event_id=key)
        if fate is None:
            raise Http404("There is no such event.")
        body = fate_body(fate)
        for shown, counted in zip(body["fate"]["meters"], fate.meters, strict=True):
            billed = billed_fate(
                customer_id,
                meter_id=counted.meter.id,
                occurred_at=fate.event.occurred_at,
                received_at=fate.event.received_at,
            )
            shown |= {"charged": _charged(billed), "stopped": billed.stopped or None}
        return Response(body)


def _charged(billed: BilledFate) -> dict[str, Any] | None:
    line = billed.line
    if line is None:
        return None
    invoice = line.invoice
    return {
        "invoice": invoice.public_id,
        "number": invoice.number,
        "status": invoice.status,
        "line": line.public_id,
        "quantity": line.quantity,
        "amount": line.amount,
        "currency": invoice.currency,
        "stripe_invoice": invoice.stripe_invoice,
        "stripe_line": line.stripe_line or None,
    }
